package kubernetes

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/safe-run/safe-run/internal/argv"
	"github.com/safe-run/safe-run/internal/cli"
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

// word is a flag as one word.
func word(name, value string) string { return "--" + name + "=" + value }

// mountWord is a mount as argv writes it, "" if no flag says it.
func mountWord(m spec.Mount) string {
	words, err := argv.Flags(spec.Workload{Image: "image", SigProxy: true, Networks: []spec.NetworkUse{{Name: "bridge"}}, Mounts: []spec.Mount{m}})
	if err != nil || len(words) != 2 {
		return ""
	}
	return words[0]
}

// secretWords are the secrets as argv writes them, one word for each.
func secretWords(w spec.Workload) []string {
	words, err := argv.Flags(spec.Workload{Image: "image", SigProxy: true, Networks: []spec.NetworkUse{{Name: "bridge"}}, Secrets: w.Secrets})
	if err != nil || len(words) != len(w.Secrets)+1 {
		return nil
	}
	return words[:len(w.Secrets)]
}

// publishWord is a published port as argv writes it.
func publishWord(p spec.Publish) string {
	words, err := argv.Flags(spec.Workload{Image: "image", SigProxy: true, Networks: []spec.NetworkUse{{Name: "bridge"}}, Publish: []spec.Publish{p}})
	if err != nil || len(words) != 2 {
		return ""
	}
	return words[0]
}

// keyed are flags where the part before = says what the flag is about.
func keyed(long string) bool {
	return slices.Contains([]string{"env", "label", "sysctl", "annotation", "log-opt", "storage-opt", "ulimit"}, long)
}

// keys gives what a flag is about. A flag that is kept stands for whatever the
// objects say about the same.
func keys(words []string) (map[string]bool, error) {
	all := map[string]bool{}
	flags, rest, err := cli.Split(words)
	if err == nil && len(rest) > 0 {
		err = fail.New(fail.Usage, "%.80q is not a flag", rest[0])
	}
	if err != nil {
		return nil, err
	}
	repeated := map[string]bool{}
	for _, f := range append(cli.Own(), cli.Table()...) {
		repeated[f.Long] = f.Repeatable
	}
	for _, f := range flags {
		for _, k := range keysOf(f, repeated[f.Long]) {
			all[k] = true
		}
	}
	return all, nil
}

// keysOf is what one flag is about: of a list, each word is about itself.
func keysOf(f cli.Given, list bool) []string {
	switch f.Long {
	case "mount", "volume", "tmpfs", "publish":
		inv, err := cli.Parse([]string{f.Word(), "image"}, cli.Context{Cwd: "/", LookupEnv: func(string) (string, bool) { return "", false }})
		if err != nil {
			return nil // it will be told when the flag is used
		}
		var out []string
		for _, m := range inv.Workload.Mounts {
			out = append(out, mountKey(m.Target))
		}
		for _, p := range inv.Workload.Publish {
			for _, one := range single(p) {
				out = append(out, one.key())
			}
		}
		return out
	case "secret":
		id := strings.TrimPrefix(f.Value, "id=")
		id, _, _ = strings.Cut(id, ",")
		id, _, _ = strings.Cut(id, "=")
		return []string{"secret:" + id}
	case "health-exec", "no-healthcheck":
		return []string{"health-cmd"}
	}
	if keyed(f.Long) {
		name, _, _ := strings.Cut(f.Value, "=")
		return []string{f.Long + ":" + name}
	}
	if list {
		return []string{f.Word()}
	}
	return []string{f.Long}
}

func mountKey(target string) string { return "mount:" + target }

// onePort is a port of a Service: one of the host, and one inside.
type onePort struct {
	host, inside uint16
	proto        string
}

func (p onePort) key() string { return fmt.Sprintf("publish:%d:%d/%s", p.host, p.inside, p.proto) }

// maxPorts is how many ports of a range are written one by one.
const maxPorts = 128

// single gives the ports of one --publish. A port that is free to choose is the
// one inside: a Service has an address of its own, where nothing is taken.
func single(p spec.Publish) (out []onePort) {
	if p.Ports.First == p.Ports.Last {
		host := p.HostFirst
		if host == 0 {
			host = p.Ports.First
		}
		return []onePort{{host, p.Ports.First, p.Ports.Proto}}
	}
	for i := range min(int(p.Ports.Last)-int(p.Ports.First)+1, maxPorts) {
		host := p.Ports.First + uint16(i)
		if p.HostFirst != 0 {
			host = p.HostFirst + uint16(i)
		}
		out = append(out, onePort{host, p.Ports.First + uint16(i), p.Ports.Proto})
	}
	return out
}

// exactly says that one port of a Service is all that is asked for.
func exactly(p spec.Publish) bool {
	return p.HostIP == netip.Addr{} && p.HostFirst != 0 && p.HostFirst == p.HostLast && p.Ports.First == p.Ports.Last
}

// flagsText is the value of the annotation, a line for each flag.
func flagsText(words []string) (string, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(words)
	return b.String(), err
}

// readFlags is the opposite of flagsText. What is not a flag of one word is an
// error.
func readFlags(text string) ([]string, error) {
	var words []string
	if err := json.Unmarshal([]byte(text), &words); err != nil {
		return nil, fail.New(fail.Usage, "the annotation %s is not a JSON array of words: %.80q", flagsKey, err.Error())
	}
	for _, w := range words {
		if !strings.HasPrefix(w, "--") || w == "--" {
			return nil, fail.New(fail.Usage, "the annotation %s: %.80q is not a flag --NAME=VALUE", flagsKey, w)
		}
	}
	if _, err := keys(words); err != nil {
		return nil, fail.Wrap(fail.Usage, err, "the annotation %s", flagsKey)
	}
	return words, nil
}
