package main

import (
	"slices"
	"strings"

	"github.com/safe-run/safe-run/internal/fail"
)

// management says for docker's GROUP WORD which verb it is. What is not here
// is a command of the group itself.
var management = []struct {
	group, word string
	verb        []string
}{
	{"container", "attach", []string{"attach"}},
	{"container", "cp", []string{"cp"}},
	{"container", "exec", []string{"exec"}},
	{"container", "inspect", []string{"inspect", "--type", "container"}},
	{"container", "kill", []string{"kill"}},
	{"container", "logs", []string{"logs"}},
	{"container", "ls", []string{"ps"}},
	{"container", "list", []string{"ps"}},
	{"container", "ps", []string{"ps"}},
	{"container", "pause", []string{"pause"}},
	{"container", "port", []string{"port"}},
	{"container", "rename", []string{"rename"}},
	{"container", "restart", []string{"restart"}},
	{"container", "rm", []string{"rm"}},
	{"container", "remove", []string{"rm"}},
	{"container", "run", []string{"run"}},
	{"container", "start", []string{"start"}},
	{"container", "stats", []string{"stats"}},
	{"container", "stop", []string{"stop"}},
	{"container", "top", []string{"top"}},
	{"container", "unpause", []string{"unpause"}},
	{"container", "wait", []string{"wait"}},
	{"image", "inspect", []string{"inspect", "--type", "image"}},
	{"image", "load", []string{"load"}},
	{"image", "ls", []string{"images"}},
	{"image", "list", []string{"images"}},
	{"image", "pull", []string{"pull"}},
	{"image", "rm", []string{"rmi"}},
	{"image", "remove", []string{"rmi"}},
	{"image", "save", []string{"save"}},
	{"image", "tag", []string{"tag"}},
	{"system", "events", []string{"events"}},
	{"system", "info", []string{"info"}},
}

// managed puts the verb in the place of docker's GROUP WORD.
func managed(args []string) []string {
	if len(args) < 2 {
		return args
	}
	for _, m := range management {
		if m.group == args[0] && m.word == args[1] {
			return slices.Concat(m.verb, args[2:])
		}
	}
	return args
}

// lacked are docker's commands that are not offered, with what to do instead.
// A group stands for all of its words that are not in management.
var lacked = map[string]string{
	"build":              "build with buildah or buildkit, and take the image over: safe-run load -i ARCHIVE",
	"builder":            "build with buildah or buildkit, and take the image over: safe-run load -i ARCHIVE",
	"buildx":             "build with buildah or buildkit, and take the image over: safe-run load -i ARCHIVE",
	"bake":               "build with buildah or buildkit, and take the image over: safe-run load -i ARCHIVE",
	"checkpoint":         "a container's memory is never written to disk; stop it and run it again",
	"commit":             "build images from a Dockerfile with buildah or buildkit; what a container wrote belongs into a volume",
	"config":             "bind a file read-only with -v, or give it with --secret",
	"context":            "there is only this host",
	"create":             "safe-run run -d creates and starts a container",
	"diff":               "a container's root file system is read-only unless --read-only=false was said; look into it with safe-run exec",
	"export":             "copy files out with safe-run cp",
	"history":            "safe-run inspect --type image shows what the image says",
	"import":             "build an image from the tree with buildah, and take it over: safe-run load -i ARCHIVE",
	"login":              "credentials are read from docker's config.json and its helpers: use `skopeo login --authfile ~/.docker/config.json REGISTRY`",
	"logout":             "take the entry out of docker's config.json, or use `skopeo logout`",
	"manifest":           "use skopeo or crane",
	"model":              "run the image of a model server",
	"node":               "there is no swarm; one systemd unit for each service: safe-run generate systemd",
	"plugin":             "there are no plugins; networks of other kinds are CNI's: /etc/cni/net.d",
	"push":               "safe-run save the image, then: skopeo copy docker-archive:FILE docker://NAME",
	"scout":              "scan the archive of safe-run save",
	"search":             "search on the registry's own site",
	"secret":             "give a file with --secret ID=FILE, or a credential of the systemd unit with --secret ID",
	"service":            "one systemd unit for each service: safe-run generate systemd",
	"stack":              "one systemd unit for each service: safe-run generate systemd",
	"swarm":              "there is no swarm; one systemd unit for each service: safe-run generate systemd",
	"trust":              "name the image by its digest: NAME@sha256:...",
	"update":             "remove the container and run it again with other limits",
	"container commit":   "build images from a Dockerfile with buildah or buildkit; what a container wrote belongs into a volume",
	"container create":   "safe-run run -d creates and starts a container",
	"container diff":     "look into the container with safe-run exec",
	"container export":   "copy files out with safe-run cp",
	"container update":   "remove the container and run it again with other limits",
	"image build":        "build with buildah or buildkit, and take the image over: safe-run load -i ARCHIVE",
	"image history":      "safe-run inspect --type image shows what the image says",
	"image import":       "build an image from the tree with buildah, and take it over: safe-run load -i ARCHIVE",
	"image push":         "safe-run save the image, then: skopeo copy docker-archive:FILE docker://NAME",
	"network connect":    "name all networks of a container when it is run: --network A --network B",
	"network disconnect": "remove the container and run it again without the network",
	"volume update":      "there is no swarm",
	"system dial-stdio":  "there is no engine to connect to",
}

// lacking gives the error for one of docker's commands that is not offered,
// and nil for all others. It is for command lines that were through managed.
func lacking(args []string) error {
	for n := min(2, len(args)); n > 0; n-- {
		word := strings.Join(args[:n], " ")
		if instead, ok := lacked[word]; ok {
			return fail.New(fail.Usage, "there is no command %q here", program()+" "+word).Hint("%s", strings.ReplaceAll(instead, "safe-run ", program()+" "))
		}
	}
	return nil
}
