package check

import (
	"strings"
	"testing"
)

// TestEvasions: ways to write a launch so that a reader does not see it. Each
// is seen, and refused.
func TestEvasions(t *testing.T) {
	for _, text := range []string{
		`docker$IFS"run" --privileged x`,
		`docker${IFS}run${IFS}--privileged${IFS}x`,
		`A='-e a --privileged'; docker run $A"" x`,
		`A='run --privileged'; docker $A"" x`,
		`r() { docker run "$@"; }; r --rm --privileged x`,
		`function r { docker run --rm $*; }; r --privileged x`,
		`c=(docker run); c+=(--privileged); "${c[@]}" x`,
		`docker create --privileged x`,
		`podman container create --privileged x`,
		`docker --config /x container run --privileged x`,
		`$(which docker) run --privileged x`,
		`$(command -v podman) run --privileged x`,
		`find . -exec docker run --privileged x \;`,
		`retry 3 docker run --privileged x`,
		`strace -f docker run --privileged x`,
		`nsenter -t 1 -m docker run --privileged x`,
		`chroot /host docker run --privileged x`,
		`pkexec docker run --privileged x`,
		`parallel docker run --privileged ::: x`,
		`env -S "docker run --privileged x"`,
		`trap 'docker run --privileged x' EXIT`,
		`tmux new -d 'docker run --privileged x'`,
		`screen -dm docker run --privileged x`,
		`sg docker -c "docker run --privileged x"`,
		"newgrp docker <<E\ndocker run --privileged x\nE",
		"cat <<E | sh\ndocker run --privileged x\nE",
		"cat <<E | ssh host bash -s\ndocker run --privileged x\nE",
	} {
		r := look(t, Shell, text+"\n")
		if len(r.Launches) != 1 || r.Launches[0].Verdict != Refused || r.Launches[0].Refused[0].ID != "privileged" {
			t.Errorf("%s: %+v", text, r.Launches)
			continue
		}
		checkAgain(t, r.Launches[0])
	}
	// Not accepted, as nobody knows how many words that is.
	for _, text := range []string{"docker run $(cat flags) x", "docker run `cat flags`", "docker run $A$B x", "docker run $X", "docker run -v $PWD/../../..:/x x"} {
		if r := look(t, Shell, text+"\n"); len(r.Launches) != 1 || r.Launches[0].Verdict != Unknown {
			t.Errorf("%s: %+v", text, r.Launches)
		}
	}
	// Only named.
	for _, text := range []string{"echo docker run --privileged x", "git commit -m 'docker run --privileged x'", "which docker run", "log docker run x"} {
		if r := look(t, Shell, text+"\n"); len(r.Launches) != 0 {
			t.Errorf("%s: %+v", text, r.Launches)
		}
	}
}

// TestTruth: compose and systemd take more words for true than docker does.
func TestTruth(t *testing.T) {
	for _, yes := range []string{"true", `"true"`, "True", "yes", "on", "y", "1", `"Yes"`, "!!bool true"} {
		r := look(t, Compose, "services:\n  a:\n    image: x\n    privileged: "+yes+"\n")
		if r.Launches[0].Verdict != Refused {
			t.Errorf("%s: %+v", yes, r.Launches[0])
		}
	}
	for _, no := range []string{"false", "no", "off", "n", "0"} {
		r := look(t, Compose, "services:\n  a:\n    image: x\n    privileged: "+no+"\n")
		if r.Launches[0].Verdict != Accepted {
			t.Errorf("%s: %+v", no, r.Launches[0])
		}
	}
	for _, hook := range []string{"post_start: [{command: x, privileged: yes}]", "pre_stop: [{command: x}]", "provider: {type: x}"} {
		if r := look(t, Compose, "services:\n  a:\n    image: x\n    "+hook+"\n"); r.Launches[0].Verdict != NotHonoured {
			t.Errorf("%s: %+v", hook, r.Launches[0])
		}
	}
	r := look(t, Quadlet, "[Container]\nImage=x\nSecurityLabelDisable=yes\nNoNewPrivileges=on\n[Service]\nExecStartPre=docker run --privileged y\n")
	if len(r.Launches) != 2 || r.Launches[0].Verdict != Refused || r.Launches[1].Verdict != Refused || !strings.Contains(r.Launches[1].Rewritten+r.Launches[0].Rewritten, "run y") {
		t.Errorf("%+v", r.Launches)
	}
}
