package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

// maxSeccompFile bounds a seccomp profile in bytes; docker's own has 15 KiB.
const maxSeccompFile = 1 << 20

// securityKeys are the keys of docker's --security-opt, and those of others
// with what to do here.
var securityKeys = map[string]string{
	"seccomp": "", "apparmor": "", "label": "", "no-new-privileges": "", "systempaths": "", "writable-cgroups": "",
	"credentialspec":                  "credential specs are for Windows containers",
	"mask":                            "the sensitive paths of /proc and /sys are masked already; cover others with --tmpfs",
	"unmask":                          "paths that are masked stay masked",
	"proc-opts":                       "the options of /proc are fixed",
	"privileged-without-host-devices": "it gives all capabilities; add those that are needed with --cap-add",
	"disable":                         "write label=disable",
}

// setSecurityOpt takes KEY=VALUE, or KEY:VALUE as docker's old form. Only
// no-new-privileges may stand alone.
func (p *parser) setSecurityOpt(v string) error {
	if err := clean(v); err != nil {
		return err
	}
	key, val, ok := strings.Cut(v, "=")
	if !ok {
		key, val, ok = strings.Cut(v, ":")
	}
	why, known := securityKeys[key]
	switch {
	case !known:
		return errors.New("there is no such security option; docker's are seccomp, apparmor, label, no-new-privileges, systempaths and writable-cgroups")
	case why != "":
		return errors.New(why)
	case (!ok || val == "") && key != "no-new-privileges":
		return errors.New("it takes KEY=VALUE")
	}
	if key == "seccomp" {
		// Of two, docker takes the last without a word. Which one was meant
		// is not for us to guess.
		if p.seccompPath != "" {
			return errors.New("seccomp is given twice")
		}
		p.seccompPath = val
	}
	p.apparmorSet = p.apparmorSet || key == "apparmor"
	p.w.SecurityOpts = append(p.w.SecurityOpts, v)
	return nil
}

// readSeccomp reads the profile of --security-opt seccomp=FILE. What it may
// say is judged later.
func (p *parser) readSeccomp() error {
	switch p.seccompPath {
	case "", "builtin", "unconfined":
		return nil
	}
	data, err := p.ctx.ReadFile(p.abs(p.seccompPath), maxSeccompFile)
	if err != nil {
		var fe *fail.Error
		if errors.As(err, &fe) {
			return &fail.Error{Kind: fe.Kind, Msg: "--security-opt seccomp", Next: fe.Next, Err: err}
		}
		return fail.Wrap(fail.Usage, err, "--security-opt seccomp")
	}
	if !json.Valid(data) {
		return fail.New(fail.Usage, "the seccomp profile %s is not valid JSON", quote(p.seccompPath))
	}
	p.w.Seccomp = &spec.SeccompFile{Path: p.seccompPath, JSON: data}
	return nil
}

// sysctlName gives the dotted name of a sysctl. As in sysctl(8), the first
// separator decides which one it is, and the other is then part of a name:
// net/ipv4/conf/eth0.1/x is net.ipv4.conf.eth0/1.x.
func sysctlName(name string) string {
	if i := strings.IndexAny(name, "./"); i < 0 || name[i] == '.' {
		return name
	}
	return strings.NewReplacer("/", ".", ".", "/").Replace(name)
}

// sysctlForm says whether a dotted name is made of words, none of them empty:
// it becomes a path below /proc/sys.
func sysctlForm(name string) bool {
	for _, word := range strings.FieldsFunc(name, func(r rune) bool { return r == '.' || r == '/' }) {
		if !only(word, "_-") {
			return false
		}
	}
	return !slices.Contains(strings.Split(strings.ReplaceAll(name, "/", "."), "."), "")
}

func (p *parser) setSysctl(v string) error {
	if err := clean(v); err != nil {
		return err
	}
	name, val, ok := strings.Cut(v, "=")
	name = sysctlName(name)
	if !ok || name == "" {
		return errors.New("it takes KEY=VALUE")
	}
	if !sysctlForm(name) {
		return fmt.Errorf("%s is not the name of a sysctl", quote(name))
	}
	if p.w.Sysctls == nil {
		p.w.Sysctls = map[string]string{}
	}
	p.w.Sysctls[name] = val
	return nil
}

func (p *parser) setAnnotation(v string) error {
	if err := clean(v); err != nil {
		return err
	}
	key, val, _ := strings.Cut(v, "=")
	if key == "" {
		return errors.New("the key is empty")
	}
	if p.w.Annotations == nil {
		p.w.Annotations = map[string]string{}
	}
	p.w.Annotations[key] = val
	return nil
}
