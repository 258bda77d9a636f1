package main

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/safe-run/safe-run/compose"
	"github.com/safe-run/safe-run/internal/fail"
)

// action is what up does about a service.
type action int

const (
	keep     action = iota // it runs as the file says
	begin                  // its container is there, stopped
	create                 // there is none
	recreate               // it is not as the file says
	bounce                 // it runs, and is restarted with what it depends on
)

// step is a service with what is to be done.
type step struct {
	compose.Service
	have container // "" ID: there is none
	do   action
}

// plan says what up does about each service, in their order. stale says of a
// container that its image is not what the name of it stands for any more.
func plan(services []compose.Service, have []container, o upFlags, stale func(container) bool) []*step {
	var steps []*step
	for _, s := range services {
		st := &step{Service: s, do: create}
		for _, c := range have {
			if c.Service == s.Name && (st.have.ID == "" || c.Name == s.ContainerName) {
				st.have = c
			}
		}
		switch c := st.have; {
		case c.ID == "":
		case o.forceRecreate, !o.noRecreate && (c.Hash != s.Hash || stale(c)):
			st.do = recreate
		case c.runs():
			st.do = keep
		default:
			st.do = begin
		}
		steps = append(steps, st)
	}
	for _, st := range steps {
		st.follow(steps, o)
	}
	return steps
}

// follow has a service made anew with the one whose namespace it shares, and
// restarted where its file says so. Services are in order of what they depend
// on, so those before it are decided.
func (st *step) follow(steps []*step, o upFlags) {
	by := func(fits func(*step) bool) bool {
		return slices.ContainsFunc(steps, func(d *step) bool { return d != st && fits(d) })
	}
	changed := func(d *step) bool { return d.do == recreate || d.do == create || d.do == begin }
	if st.do == keep || st.do == begin {
		shares := func(d *step) bool {
			return changed(d) && slices.ContainsFunc(st.Flags, func(f compose.Flag) bool {
				return strings.HasSuffix(f.Word, "=container:"+d.ContainerName)
			})
		}
		if !o.noRecreate && by(shares) {
			st.do = recreate
		}
	}
	if st.do == keep && by(func(d *step) bool {
		return d.do == recreate && slices.ContainsFunc(st.DependsOn, func(on compose.Dependency) bool { return on.Restart && on.Service == d.Name })
	}) {
		st.do = bounce
	}
}

// orphans are containers of the project whose service is not in the file. One
// that is off is in it.
func orphans(p *compose.Project, have []container) []container {
	return slices.DeleteFunc(slices.Clone(have), func(c container) bool {
		return slices.Contains(p.Off, c.Service) || slices.ContainsFunc(p.Services, func(s compose.Service) bool { return s.Name == c.Service })
	})
}

// words is the command line of run for a service, without the verb.
func words(s compose.Service, flags []compose.Flag, more ...string) []string {
	out := []string{}
	for _, f := range flags {
		out = append(out, f.Word)
	}
	if !slices.ContainsFunc(out, func(w string) bool { return strings.HasPrefix(w, "--label="+labelDepends+"=") }) && len(s.DependsOn) > 0 {
		var on []string
		for _, d := range s.DependsOn {
			restart := "false"
			if d.Restart {
				restart = "true"
			}
			on = append(on, d.Service+":"+d.Condition+":"+restart)
		}
		out = append(out, "--label="+labelDepends+"="+strings.Join(on, ","))
	}
	if !slices.ContainsFunc(out, func(w string) bool { return strings.HasPrefix(w, "--label="+labelHash+"=") }) {
		out = append(out, "--label="+labelHash+"="+s.Hash)
	}
	out = append(out, more...)
	return append(append(out, s.Image), s.Args...)
}

// mount is one of a container, as inspect tells of it.
type mount struct{ Type, Name, Destination string }

func mounts(text string) (all []mount, err error) {
	return all, fail.Wrap(fail.Internal, json.Unmarshal([]byte(text), &all), "the mounts of a container")
}

// nameless says of a volume that nobody chose its name.
func nameless(m mount) bool {
	return m.Type == "volume" && len(m.Name) == 64 && strings.Trim(m.Name, "0123456789abcdef") == ""
}

// carried are the flags of a service that takes over the anonymous volumes of
// the container in whose place it comes: what is in them would be lost else.
func carried(flags []compose.Flag, old []mount) []compose.Flag {
	out := slices.Clone(flags)
	for _, m := range old {
		if !nameless(m) || strings.Contains(m.Destination, ":") {
			continue
		}
		taken := false
		for i, f := range out {
			switch at, anonymous := target(f.Word); {
			case at != m.Destination:
			case anonymous && strings.HasPrefix(f.Word, "--volume="):
				out[i].Word = "--volume=" + m.Name + ":" + strings.TrimPrefix(f.Word, "--volume=")
				taken = true
			default:
				taken = true
			}
		}
		if !taken {
			out = append(out, compose.Flag{Word: "--volume=" + m.Name + ":" + m.Destination})
		}
	}
	return out
}

// target is where a flag mounts something, "" if it does not; anonymous says
// that it is a volume without a name.
func target(word string) (at string, anonymous bool) {
	name, value, _ := strings.Cut(word, "=")
	switch name {
	case "--volume":
		if parts := strings.Split(value, ":"); len(parts) > 1 && strings.HasPrefix(parts[1], "/") {
			return parts[1], false
		} else if strings.HasPrefix(parts[0], "/") {
			return parts[0], true
		}
	case "--tmpfs":
		at, _, _ = strings.Cut(value, ":")
		return at, false
	case "--mount":
		for _, field := range strings.Split(value, ",") {
			k, v, _ := strings.Cut(strings.Trim(field, `"`), "=")
			if slices.Contains([]string{"target", "dst", "destination"}, k) {
				return v, false
			}
		}
	}
	return "", false
}
