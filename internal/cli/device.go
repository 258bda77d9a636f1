package cli

import (
	"encoding/csv"
	"errors"
	"path"
	"strconv"
	"strings"

	"github.com/safe-run/safe-run/spec"

	"github.com/safe-run/safe-run/internal/lazyre"
)

// cdiName is vendor/class=name of the Container Device Interface.
var cdiName = lazyre.New(`^[A-Za-z]([A-Za-z0-9_.-]*[A-Za-z0-9])?/[A-Za-z]([A-Za-z0-9_.-]*[A-Za-z0-9])?=[A-Za-z0-9]([A-Za-z0-9_.:-]*[A-Za-z0-9])?$`)

// deviceRule is a line of the devices cgroup: type, numbers, access.
var deviceRule = lazyre.New(`^[acb] ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})$`)

// devicePerms says whether v is a subset of rwm without repetition.
func devicePerms(v string) bool {
	for i := range len(v) {
		if strings.IndexByte("rwm", v[i]) < 0 || strings.IndexByte(v[i+1:], v[i]) >= 0 {
			return false
		}
	}
	return v != ""
}

// setDevice reads HOST[:CONTAINER][:PERMISSIONS], or a CDI name.
func (p *parser) setDevice(v string) error {
	if err := clean(v); err != nil {
		return err
	}
	if cdiName().MatchString(v) {
		p.w.Devices = append(p.w.Devices, spec.Device{Raw: v, Host: v, CDI: true})
		return nil
	}
	parts := strings.Split(v, ":")
	d := spec.Device{Raw: v, Host: parts[0], Container: parts[0], Permissions: "rwm"}
	switch {
	case len(parts) > 3 || parts[0] == "":
		return errors.New("it takes HOST[:CONTAINER][:PERMISSIONS], or a CDI name vendor/class=name")
	case len(parts) == 3:
		d.Container, d.Permissions = parts[1], parts[2]
		if !devicePerms(d.Permissions) {
			return errors.New("the permissions are some of r, w and m")
		}
	case len(parts) == 2 && devicePerms(parts[1]):
		d.Permissions = parts[1]
	case len(parts) == 2:
		d.Container = parts[1]
	}
	if !path.IsAbs(d.Host) || !path.IsAbs(d.Container) {
		return errors.New("a device is an absolute path, on the host and in the container")
	}
	d.Host, d.Container = path.Clean(d.Host), path.Clean(d.Container)
	if d.Container == "/" {
		return errors.New("the path in the container cannot be /")
	}
	p.w.Devices = append(p.w.Devices, d)
	return nil
}

func (p *parser) setDeviceRule(v string) error {
	m := deviceRule().FindStringSubmatch(v)
	if m == nil || !devicePerms(m[3]) {
		return errors.New("invalid device cgroup format: it takes \"TYPE MAJOR:MINOR ACCESS\", such as \"c 10:229 rw\"")
	}
	p.w.DeviceCgroupRules = append(p.w.DeviceCgroupRules, v)
	return nil
}

// setGPUs checks docker's form: all, a number, or CSV of keys, each once.
func (p *parser) setGPUs(v string) error {
	if err := clean(v); err != nil {
		return err
	}
	fields, err := csv.NewReader(strings.NewReader(v)).Read()
	if err != nil {
		return errors.New("it takes all, a number, or CSV of driver, count, device, capabilities and options")
	}
	seen := map[string]bool{}
	for _, f := range fields {
		key, val, has := strings.Cut(f, "=")
		if !has {
			key, val = "count", f
		}
		if seen[key] {
			return errors.New("a key can be given only once")
		}
		seen[key] = true
		switch key {
		case "count":
			if _, err := strconv.Atoi(val); err != nil && val != "all" {
				return errors.New("the count is all or a number")
			}
		case "driver", "device", "capabilities", "options":
		default:
			return errors.New("its keys are driver, count, device, capabilities and options")
		}
	}
	if p.w.GPUs != "" {
		p.w.GPUs += " "
	}
	p.w.GPUs += v
	return nil
}
