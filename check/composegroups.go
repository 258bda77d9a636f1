package check

import (
	"encoding/csv"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// group reads the keys with keys of their own.
func (s *service) group(e entry) {
	switch e.key {
	case "ulimits":
		for _, u := range s.entries(e.value) {
			w := s.word(u.value)
			if soft := s.get(u.value, "soft"); soft != nil {
				w = s.word(soft)
				if hard := s.get(u.value, "hard"); hard != nil {
					w.parts = append(append(w.parts, part{text: ":"}), s.word(hard).parts...)
				}
			}
			w.parts = append([]part{{text: u.key + "="}}, w.parts...)
			s.flag("ulimit", w, "ulimits: "+text(w), u.line)
		}
	case "logging":
		for _, o := range s.entries(e.value) {
			switch o.key {
			case "driver":
				s.flag("log-driver", s.word(o.value), "logging.driver: "+text(s.word(o.value)), o.line)
			case "options":
				s.pairs(entry{"logging.options", o.value, o.line}, "log-opt", "=")
			}
		}
	case "healthcheck":
		s.healthcheck(e)
	case "deploy":
		s.deploy(e)
	case "blkio_config":
		for _, o := range s.entries(e.value) {
			flag := map[string]string{
				"weight": "blkio-weight", "weight_device": "blkio-weight-device", "device_read_bps": "device-read-bps",
				"device_read_iops": "device-read-iops", "device_write_bps": "device-write-bps", "device_write_iops": "device-write-iops",
			}[o.key]
			if flag == "" {
				s.unknown("blkio_config."+o.key, "a key that is not known here", o.line)
				continue
			}
			for _, n := range s.list(o.value) {
				w := s.word(n)
				if p := s.get(n, "path"); p != nil {
					rate := s.get(n, "rate")
					if rate == nil {
						rate = s.get(n, "weight")
					}
					w = s.word(p)
					w.parts = append(append(w.parts, part{text: ":"}), s.word(rate).parts...)
				}
				s.flag(flag, w, "blkio_config."+o.key, o.line)
			}
		}
	}
}

func (s *service) healthcheck(e entry) {
	for _, o := range s.entries(e.value) {
		typed := "healthcheck." + o.key
		switch o.key {
		case "disable":
			s.flag("no-healthcheck", s.word(o.value), typed, o.line)
		case "interval", "timeout", "retries", "start_period", "start_interval":
			s.flag("health-"+strings.ReplaceAll(o.key, "_", "-"), s.word(o.value), typed, o.line)
		case "test":
			words := s.list(o.value)
			if _, single := s.text(o.value); single {
				s.flag("health-cmd", s.word(o.value), typed, o.line)
				continue
			}
			var parts []part
			for i, n := range words {
				w := s.word(n)
				switch v, _ := w.value(); {
				case i == 0 && v == "NONE":
					s.flag("no-healthcheck", literal("true", o.line), typed, o.line)
				case i == 0: // CMD, CMD-SHELL
				case v != "" && !isPlain(v) && len(words) > 2:
					parts = append(parts, part{text: " " + shellStyle{}.text(v)})
				default:
					parts = append(append(parts, part{text: " "}), w.parts...)
				}
			}
			if len(parts) > 0 {
				parts[0].text = strings.TrimPrefix(parts[0].text, " ")
				s.flag("health-cmd", word{parts: parts, line: o.line}, typed, o.line)
			}
		default:
			s.unknown(typed, "a key that is not known here", o.line)
		}
	}
}

func (s *service) deploy(e entry) {
	for _, o := range s.entries(s.get(e.value, "resources", "limits")) {
		if flag := map[string]string{"cpus": "cpus", "memory": "memory", "pids": "pids-limit"}[o.key]; flag != "" {
			s.flag(flag, s.word(o.value), "deploy.resources.limits."+o.key, o.line)
		}
	}
	for _, o := range s.entries(s.get(e.value, "resources", "reservations")) {
		switch o.key {
		case "memory":
			s.flag("memory-reservation", s.word(o.value), "deploy.resources.reservations.memory", o.line)
		case "devices":
			for range s.list(o.value) {
				s.flag("gpus", literal("all", o.line), "deploy.resources.reservations.devices", o.line)
			}
		}
	}
}

// volume is one entry of volumes, in the short or the long form.
func (s *service) volume(n ast.Node) {
	line := yamlLine(n)
	if _, single := s.text(n); single {
		w := s.word(n)
		source, target, two := strings.Cut(w.head(), ":")
		if opts := s.volumeOptions(source); two && len(opts) > 0 {
			target, _, _ = strings.Cut(target, ":")
			s.driven(source, target, opts, line)
			return
		}
		s.flag("volume", w, "volumes: "+text(w), line)
		return
	}
	kind, _ := s.text(s.get(n, "type"))
	source, target := s.get(n, "source"), s.get(n, "target")
	src, _ := s.text(source)
	dst := s.word(target)
	if opts := s.volumeOptions(src); kind == "volume" && len(opts) > 0 {
		s.driven(src, text(dst), opts, line)
		return
	}
	var modes []string
	if on, _ := truth(plainText(s, n, "read_only")); on {
		modes = append(modes, "ro")
	}
	w := dst
	switch kind {
	case "tmpfs":
		if size, ok := s.text(s.get(n, "tmpfs", "size")); ok && size != "" {
			modes = append(modes, "size="+size)
		}
		w.parts = append(w.parts, part{text: strings.TrimSuffix(":"+strings.Join(modes, ","), ":")})
		s.flag("tmpfs", w, "volumes: tmpfs "+text(dst), line)
		return
	case "bind", "volume", "":
	default:
		s.unknown("volumes: type "+short(kind, 40), "mounts of this type are not supported", line)
		return
	}
	for _, key := range []string{"propagation", "selinux"} {
		if v, ok := s.text(s.get(n, "bind", key)); ok && v != "" {
			modes = append(modes, v)
		}
	}
	if on, _ := truth(plainText(s, n, "volume", "nocopy")); on {
		modes = append(modes, "nocopy")
	}
	if plainText(s, n, "volume", "subpath") != "" {
		s.unknown("volumes: subpath", "a part of a volume cannot be mounted", line)
		return
	}
	if source != nil {
		w = s.word(source)
		w.parts = append(append(w.parts, part{text: ":"}), dst.parts...)
	}
	if len(modes) > 0 {
		w.parts = append(w.parts, part{text: ":" + strings.Join(modes, ",")})
	}
	s.flag("volume", w, "volumes: "+text(w), line)
}

func plainText(s *service, n ast.Node, keys ...string) string {
	v, _ := s.text(s.get(n, keys...))
	return v
}

// volumeOptions are the driver and its options of a volume the file declares:
// they can make it a bind of any path.
func (s *service) volumeOptions(name string) (opts []string) {
	if name == "" || strings.ContainsAny(name[:1], "/.~") {
		return nil
	}
	v := s.get(s.volumes, name)
	if driver, ok := s.text(s.get(v, "driver")); ok && driver != "" && driver != "local" {
		opts = append(opts, "volume-driver="+driver)
	}
	for _, o := range s.entries(s.get(v, "driver_opts")) {
		value, _ := s.text(o.value)
		opts = append(opts, "volume-opt="+o.key+"="+value)
	}
	slices.Sort(opts)
	return opts
}

func (s *service) driven(source, target string, opts []string, line int) {
	var b strings.Builder
	w := csv.NewWriter(&b)
	_ = w.Write(append([]string{"type=volume", "source=" + source, "target=" + target}, opts...)) // a Builder does not fail
	w.Flush()
	s.flag("mount", composeWord(strings.TrimSpace(b.String()), line), "volumes: "+source+":"+target, line)
}
