package audit

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// cgroupRoot is where runtimes and systemd mount the cgroup hierarchies.
const cgroupRoot = "/sys/fs/cgroup"

// cgroupDirs are the directories of a process's cgroups.
type cgroupDirs struct {
	unified bool
	byName  map[string]string // controller -> directory; "" is the one of cgroup v2
}

// cgroups compares the limits of the container's cgroup.
func (a *attestation) cgroups() error {
	b, err := a.read("cgroup")
	if err != nil {
		return err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(cgroupRoot, &fs); err != nil {
		return fmt.Errorf("%s: %w", cgroupRoot, withoutErrno(err))
	}
	dirs := cgroupDirs{unified: fs.Type == unix.CGROUP2_SUPER_MAGIC, byName: map[string]string{}}
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) != 3 {
			return fmt.Errorf("cgroup: %.100q is not a cgroup", line)
		}
		if dirs.unified {
			if f[0] == "0" {
				dirs.byName[""] = a.cgroupDir("cgroup", "", f[2])
			}
			continue
		}
		for name := range strings.SplitSeq(f[1], ",") {
			if name != "" && !strings.HasPrefix(name, "name=") {
				dirs.byName[name] = f[2]
			}
		}
	}
	r := a.spec.Linux.Resources
	if r == nil {
		return nil
	}
	for _, l := range limitsOf(r, dirs.unified) {
		a.limit(&dirs, l)
	}
	a.deviceRules(&dirs, r)
	return nil
}

// cgroupDir turns the path of a cgroup into its directory, "" if it is not the
// container's own or cannot be found.
func (a *attestation) cgroupDir(what, controller, p string) string {
	if p == "/" || slices.Contains(strings.Split(p, "/"), "..") {
		a.differ(what, "a cgroup of the container's own", p)
		return ""
	}
	switch asked := a.spec.Linux.CgroupsPath; {
	case strings.Count(asked, ":") == 2:
		// systemd's form, SLICE:PREFIX:NAME.
		f := strings.Split(asked, ":")
		a.equal(what, f[1]+"-"+f[2]+".scope", path.Base(p))
	case path.IsAbs(asked):
		// Our own root may be below what this process sees as the root; a
		// systemd unit's cgroup is found by the very path.
		want := path.Clean(asked)
		below := strings.HasPrefix(want, "/safe-run/") && strings.HasSuffix(p, want)
		if p != want && !below {
			a.differ(what, want, p)
		}
	}
	dir := filepath.Join(cgroupRoot, controller, p)
	// The directory is this process's only if it names the process: the
	// hierarchy may be mounted elsewhere, and another be mounted here.
	procs, err := a.file(filepath.Join(dir, "cgroup.procs"))
	if err != nil || !slices.Contains(strings.Fields(procs), strconv.Itoa(a.pid)) {
		if err == nil {
			err = fmt.Errorf("%s does not name process %d", filepath.Join(dir, "cgroup.procs"), a.pid)
		}
		a.differ(what, "found under "+cgroupRoot, err.Error())
		return ""
	}
	return dir
}

// dir of a controller; cgroup v1 ones are looked for when first asked for.
func (d *cgroupDirs) dir(a *attestation, controller string) string {
	if d.unified {
		return d.byName[""]
	}
	p, ok := d.byName[controller]
	if !ok {
		a.differ("cgroup controller "+controller, "in use", "not mounted")
		d.byName[controller] = ""
		return ""
	}
	if p == "" || strings.HasPrefix(p, cgroupRoot+"/") {
		return p
	}
	d.byName[controller] = a.cgroupDir("cgroup "+controller, controller, p)
	return d.byName[controller]
}

// limitFile is a file of a cgroup and what it should say.
type limitFile struct {
	controller string
	files      []string // the first one that exists counts
	want       string
	match      func(content string) bool
}

func (a *attestation) limit(d *cgroupDirs, l limitFile) {
	dir := d.dir(a, l.controller)
	if dir == "" {
		return // said already
	}
	for _, f := range l.files {
		got, err := a.file(filepath.Join(dir, f))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			a.differ(f, l.want, err.Error())
			return
		}
		if !l.match(got) {
			a.differ(f, l.want, strings.TrimSpace(got))
		}
		return
	}
	a.differ(l.files[0], l.want, "no such file: the controller is not on")
}

// exactly and its siblings are ways to compare.
func exactly(s ...string) func(string) bool {
	return func(got string) bool { return slices.Contains(s, strings.TrimSpace(got)) }
}

// bytesV1: a whole number of pages; no limit is the largest such number.
func bytesV1(n int64) func(string) bool {
	page := int64(os.Getpagesize())
	return func(got string) bool {
		v, err := strconv.ParseInt(strings.TrimSpace(got), 10, 64)
		if n < 0 {
			return err == nil && v >= math.MaxInt64/page*page
		}
		return err == nil && v == n/page*page
	}
}

func bytesV2(n int64) func(string) bool {
	page := int64(os.Getpagesize())
	if n < 0 {
		return exactly("max")
	}
	return exactly(strconv.FormatInt(n/page*page, 10))
}

// sameSet compares lists such as 0-2,4.
func sameSet(want string) func(string) bool {
	return func(got string) bool {
		a, okA := expand(want)
		b, okB := expand(strings.TrimSpace(got))
		return okA && okB && slices.Equal(a, b)
	}
}

func expand(s string) ([]uint64, bool) {
	var out []uint64
	for part := range strings.SplitSeq(s, ",") {
		lo, hi, ranged := strings.Cut(part, "-")
		if !ranged {
			hi = lo
		}
		a, err1 := strconv.ParseUint(lo, 10, 16)
		b, err2 := strconv.ParseUint(hi, 10, 16)
		if err1 != nil || err2 != nil || b < a {
			return nil, false
		}
		for ; a <= b; a++ {
			out = append(out, a)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), true
}

// hasLine finds a line with these words at its beginning and each of these
// settings behind it.
func hasLine(key string, settings ...string) func(string) bool {
	return func(got string) bool {
		for line := range strings.Lines(got) {
			f := strings.Fields(line)
			if len(f) < 2 || f[0] != key {
				continue
			}
			if !slices.ContainsFunc(settings, func(s string) bool { return !slices.Contains(f[1:], s) }) {
				return true
			}
		}
		return false
	}
}

// limitsOf lists the files that must show the resources of a spec.
func limitsOf(r *specs.LinuxResources, unified bool) []limitFile {
	var out []limitFile
	add := func(controller, want string, match func(string) bool, files ...string) {
		out = append(out, limitFile{controller, files, want, match})
	}
	if m := r.Memory; m != nil {
		limit := int64(-1)
		if m.Limit != nil {
			limit = *m.Limit
			if unified {
				add("memory", bytesText(limit), bytesV2(limit), "memory.max")
			} else {
				add("memory", bytesText(limit), bytesV1(limit), "memory.limit_in_bytes")
			}
		}
		if m.Reservation != nil && *m.Reservation != 0 {
			if unified {
				add("memory", bytesText(*m.Reservation), bytesV2(*m.Reservation), "memory.low")
			} else {
				add("memory", bytesText(*m.Reservation), bytesV1(*m.Reservation), "memory.soft_limit_in_bytes")
			}
		}
		if m.Swap != nil && *m.Swap != 0 {
			switch {
			case !unified:
				add("memory", bytesText(*m.Swap), bytesV1(*m.Swap), "memory.memsw.limit_in_bytes")
			case *m.Swap < 0:
				add("memory", "max", exactly("max"), "memory.swap.max")
			default:
				// The spec has memory and swap together, cgroup v2 swap alone.
				add("memory", bytesText(*m.Swap-limit), bytesV2(*m.Swap-limit), "memory.swap.max")
			}
		}
		if m.Swappiness != nil && !unified {
			v := strconv.FormatUint(*m.Swappiness, 10)
			add("memory", v, exactly(v), "memory.swappiness")
		}
	}
	if p := r.Pids; p != nil && p.Limit != nil {
		v := "max"
		switch {
		case *p.Limit > 0:
			v = strconv.FormatInt(*p.Limit, 10)
		case *p.Limit == 0:
			v = "1" // runc >= 1.4, the same as 0 in effect
		}
		add("pids", v, exactly(v), "pids.max")
	}
	out = append(out, cpuLimits(r.CPU, unified)...)
	out = append(out, blockLimits(r.BlockIO, unified)...)
	if unified {
		for f, v := range r.Unified {
			add("", v, exactly(strings.TrimSpace(v)), filepath.Base(f))
		}
	}
	return out
}

func bytesText(n int64) string {
	if n < 0 {
		return "no limit"
	}
	return strconv.FormatInt(n, 10)
}

func cpuLimits(c *specs.LinuxCPU, unified bool) (out []limitFile) {
	if c == nil {
		return nil
	}
	add := func(controller, want string, match func(string) bool, files ...string) {
		out = append(out, limitFile{controller, files, want, match})
	}
	period := "100000" // the kernel's default
	if c.Period != nil && *c.Period != 0 {
		period = strconv.FormatUint(*c.Period, 10)
	}
	quota, given := "-1", c.Quota != nil && *c.Quota != 0
	if given && *c.Quota > 0 {
		quota = strconv.FormatInt(*c.Quota, 10)
	}
	switch {
	case unified && (given || c.Period != nil):
		want := strings.Replace(quota, "-1", "max", 1) + " " + period
		add("cpu", want, exactly(want), "cpu.max")
	case !unified:
		if given {
			add("cpu", quota, exactly(quota), "cpu.cfs_quota_us")
		}
		if c.Period != nil && *c.Period != 0 {
			add("cpu", period, exactly(period), "cpu.cfs_period_us")
		}
	}
	if c.Shares != nil && *c.Shares != 0 {
		shares := min(max(*c.Shares, 2), 262144)
		if unified {
			// The way from shares to weights was straight until runc 1.3.2
			// and bends since, so that both defaults meet.
			straight := 1 + (shares-2)*9999/262142
			l := math.Log2(float64(shares))
			bent := uint64(math.Ceil(math.Pow(10, (l*l+125*l)/612.0-7.0/34.0)))
			bent = min(max(bent, 1), 10000)
			if shares == 2 {
				bent = 1
			}
			a, b := strconv.FormatUint(straight, 10), strconv.FormatUint(bent, 10)
			add("cpu", b, exactly(a, b), "cpu.weight")
		} else {
			v := strconv.FormatUint(shares, 10)
			add("cpu", v, exactly(v), "cpu.shares")
		}
	}
	if c.Cpus != "" {
		add("cpuset", c.Cpus, sameSet(c.Cpus), "cpuset.cpus")
	}
	if c.Mems != "" {
		add("cpuset", c.Mems, sameSet(c.Mems), "cpuset.mems")
	}
	return out
}

func blockLimits(b *specs.LinuxBlockIO, unified bool) (out []limitFile) {
	if b == nil {
		return nil
	}
	add := func(want string, match func(string) bool, files ...string) {
		out = append(out, limitFile{"blkio", files, want, match})
	}
	if b.Weight != nil && *b.Weight != 0 {
		v := strconv.FormatUint(uint64(*b.Weight), 10)
		if unified {
			scaled := strconv.FormatUint(1+(uint64(*b.Weight)-10)*9999/990, 10)
			add(v, exactly("default "+v, v, "default "+scaled, scaled), "io.bfq.weight", "io.weight")
		} else {
			add(v, exactly(v), "blkio.weight", "blkio.bfq.weight")
		}
	}
	for _, t := range []struct {
		list   []specs.LinuxThrottleDevice
		v1, v2 string
	}{
		{b.ThrottleReadBpsDevice, "blkio.throttle.read_bps_device", "rbps"},
		{b.ThrottleWriteBpsDevice, "blkio.throttle.write_bps_device", "wbps"},
		{b.ThrottleReadIOPSDevice, "blkio.throttle.read_iops_device", "riops"},
		{b.ThrottleWriteIOPSDevice, "blkio.throttle.write_iops_device", "wiops"},
	} {
		for _, d := range t.list {
			if d.Rate == 0 {
				continue
			}
			dev := fmt.Sprintf("%d:%d", d.Major, d.Minor)
			rate := strconv.FormatUint(d.Rate, 10)
			if unified {
				add(dev+" "+t.v2+"="+rate, hasLine(dev, t.v2+"="+rate), "io.max")
			} else {
				add(dev+" "+rate, hasLine(dev, rate), t.v1)
			}
		}
	}
	return out
}

// runtimeDevices may be used by every container: those of the runtime spec,
// and what runc allows besides (its AllowedDevices): making any node, which
// takes a capability of the host, and tun.
var runtimeDevices = []string{
	"c *:* m", "b *:* m",
	"c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm",
	"c 5:0 rwm", "c 5:2 rwm", "c 136:* rwm", "c 10:200 rwm",
}

// deviceRules: with cgroup v1 the devices a cgroup may use can be read. With
// v2 they are in a BPF program, which cannot.
func (a *attestation) deviceRules(d *cgroupDirs, r *specs.LinuxResources) {
	if d.unified || a.allowsAll(r) {
		return
	}
	dir := d.dir(a, "devices")
	if dir == "" {
		return
	}
	got, err := a.file(filepath.Join(dir, "devices.list"))
	if err != nil {
		a.differ("devices.list", "the devices of the spec", err.Error())
		return
	}
	allowed := slices.Clone(runtimeDevices)
	for _, rule := range r.Devices {
		if rule.Allow {
			allowed = append(allowed, fmt.Sprintf("%s %s:%s %s", rule.Type, number(rule.Major), number(rule.Minor), rule.Access))
		}
	}
	for line := range strings.Lines(got) {
		line = strings.TrimSpace(line)
		if !slices.ContainsFunc(allowed, func(rule string) bool { return covers(rule, line) }) {
			a.differ("devices.list", "only the devices of the spec", line)
		}
	}
}

// allowsAll: the spec itself lets the container use all devices.
func (a *attestation) allowsAll(r *specs.LinuxResources) bool {
	all := false
	for _, rule := range r.Devices {
		if (rule.Type == "a" || rule.Type == "") && number(rule.Major) == "*" && number(rule.Minor) == "*" {
			all = rule.Allow
		}
	}
	return all
}

func number(n *int64) string {
	if n == nil || *n < 0 {
		return "*"
	}
	return strconv.FormatInt(*n, 10)
}

// covers says whether a rule "c 1:3 rwm" allows all that another does.
func covers(rule, other string) bool {
	a, b := strings.Fields(rule), strings.Fields(other)
	if len(a) != 3 || len(b) != 3 || a[0] != b[0] {
		return false
	}
	majorA, minorA, _ := strings.Cut(a[1], ":")
	majorB, minorB, _ := strings.Cut(b[1], ":")
	if majorA != "*" && majorA != majorB || minorA != "*" && minorA != minorB {
		return false
	}
	return strings.Trim(b[2], a[2]) == ""
}
