package check

import (
	"bytes"
	"strings"
	"testing"

	"github.com/safe-run/safe-run/policy"
)

// TestElsewhere: a file whose containers stand in another one is not told to
// start none.
func TestElsewhere(t *testing.T) {
	const nothing = "nothing here starts a container"
	for _, c := range []struct {
		kind       Type
		text, want string
	}{
		{Shell, "docker compose -f x.yml up -d", "file:1: docker compose up: the containers stand in a compose file"},
		{Shell, "cd /srv\nsudo docker-compose up", "file:2: docker compose up: "},
		{Shell, "podman-compose --in-pod 1 run web", "podman compose run: "},
		{Shell, "docker stack deploy -c x.yml web", "docker stack deploy: "},
		{Shell, "docker service create nginx", "swarm"},
		{Shell, "podman kube play x.yml", "pods"},
		{Shell, "podman play kube x.yml", "pods"},
		{Unit, "[Service]\nExecStart=/usr/bin/docker compose up", "file:2: docker compose up: "},
		{Compose, "test:\n  script: [docker run --privileged x]\n", "it is no compose file"},
		{Shell, "docker compose ps; docker stack ls; docker ps", nothing},
		{Shell, "X=1\n", nothing},
	} {
		var b bytes.Buffer
		if err := look(t, c.kind, c.text).WriteText(&b); err != nil {
			t.Fatal(err)
		}
		if got := b.String(); !strings.Contains(got, c.want) || strings.Contains(got, nothing) != (c.want == nothing) {
			t.Errorf("%s\n got: %s\nwant: %s", c.text, got, c.want)
		}
	}
}

// TestUnknownRepository: of an image of which the repository is not known no
// grant is shown, and none holds; one with a default is known by that.
func TestUnknownRepository(t *testing.T) {
	site, err := policy.ParseSite([]byte("version: 1\ngrants: [{image: docker.io/library/*, capabilities: [SYS_PTRACE]}]\n"), "policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for image, want := range map[string]string{
		`"$IMAGE:${TAG:-1}"`:       "",
		"$IMAGE":                   "",
		"vendor/x:${TAG:-1}":       "docker.io/vendor/x",
		"${IMAGE:-v/y}:${TAG:-1}":  "docker.io/v/y",
		"${IMAGE:-v/y}:${TAG}":     "",
		"${REG}/vendor/x:${T:-1}":  "",
		"registry.example:5000/x:": "",
	} {
		r, err := Look("file", []byte("docker run --cap-add SYS_PTRACE "+image+"\n"), Options{Type: Shell, Site: site})
		if err != nil || len(r.Launches) != 1 || len(r.Launches[0].Refused) != 1 {
			t.Errorf("%s: %v %+v", image, err, r)
			continue
		}
		if got := r.Launches[0].Refused[0].Image; got != want {
			t.Errorf("%s: the grant is for %q, not %q", image, got, want)
		}
	}
}

// TestNotes: what a pasted line lacks beside what it says.
func TestNotes(t *testing.T) {
	const detached = "leave -d out"
	for text, want := range map[string]bool{
		"[Service]\nExecStart=docker run -d nginx":           true,
		"[Service]\nExecStart=-docker run -itd nginx":        true,
		"[Service]\nExecStart=docker run --detach nginx":     true,
		"[Service]\nExecStart=docker run nginx":              false,
		"[Service]\nExecStart=docker run -d=false nginx":     false,
		"[Service]\nExecStartPre=docker run -d --rm alpine ": false,
	} {
		notes := strings.Join(look(t, Unit, text).Launches[0].Notes, "\n")
		if strings.Contains(notes, detached) != want {
			t.Errorf("%s: %s", text, notes)
		}
	}
	for text, want := range map[string]int{
		"services: {a: {image: x}}":                0,
		"services: {a: {image: x}, b: {image: y}}": 1,
	} {
		if r := look(t, Compose, text); len(r.Remarks) != want {
			t.Errorf("%s: %+v", text, r.Remarks)
		}
	}
}
