package cli

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"

	"github.com/safe-run/safe-run/spec"
)

// parseSize reads a number with an optional unit k, m, g, t or p, always
// binary multiples, as docker does. The result is in bytes.
func parseSize(v string) (int64, error) {
	n, err := units.RAMInBytes(v)
	// A float beyond int64 converts to MinInt64 on amd64, MaxInt64 on arm64.
	if err != nil || n < 0 || n == math.MaxInt64 {
		return 0, errors.New("invalid size: it takes a number with an optional unit, such as 512m or 1.5g")
	}
	return n, nil
}

func sizeTo(to func(*spec.Workload) **int64) setter {
	return func(p *parser, v string) error {
		n, err := parseSize(v)
		if err != nil {
			return err
		}
		*to(p.w) = &n
		return nil
	}
}

// setShmSize: 0 selects the default, as in docker.
func (p *parser) setShmSize(v string) error {
	n, err := parseSize(v)
	if err != nil {
		return err
	}
	p.w.ShmSize = nil
	if n > 0 {
		p.w.ShmSize = &n
	}
	return nil
}

// setMemorySwap: -1 is no limit, 0 the default.
func (p *parser) setMemorySwap(v string) error {
	n := int64(-1)
	if v != "-1" {
		var err error
		if n, err = parseSize(v); err != nil {
			return err
		}
	}
	p.w.Resources.MemorySwap = nil
	if n != 0 {
		p.w.Resources.MemorySwap = &n
	}
	return nil
}

func parseInt(v string, lo, hi int64) (int64, error) {
	n, err := strconv.ParseInt(v, 0, 64)
	if err != nil {
		return 0, errors.New("it takes a number")
	}
	if n < lo || n > hi {
		if hi == maxInt64 {
			return 0, fmt.Errorf("it cannot be less than %d", lo)
		}
		return 0, fmt.Errorf("it takes a number from %d to %d", lo, hi)
	}
	return n, nil
}

func int64To(to func(*spec.Workload) **int64, lo, hi int64) setter {
	return func(p *parser, v string) error {
		n, err := parseInt(v, lo, hi)
		if err != nil {
			return err
		}
		*to(p.w) = &n
		return nil
	}
}

// setSwappiness: -1 leaves it to the kernel.
func (p *parser) setSwappiness(v string) error {
	n, err := parseInt(v, -1, 100)
	if err != nil {
		return err
	}
	p.w.Resources.MemorySwappiness = nil
	if n >= 0 {
		p.w.Resources.MemorySwappiness = &n
	}
	return nil
}

func (p *parser) setOOMScoreAdj(v string) error {
	n, err := parseInt(v, -1000, 1000) // proc_pid_oom_score_adj(5)
	if err != nil {
		return err
	}
	i := int(n)
	p.w.OOMScoreAdj = &i
	return nil
}

// setCPUs reads a rational number of CPUs with at most nine decimals.
func (p *parser) setCPUs(v string) error {
	bad := errors.New("it takes a number of CPUs, such as 1.5")
	if len(v) > 32 || strings.ContainsAny(v, "xXoObBpP_") {
		return bad
	}
	r, ok := new(big.Rat).SetString(v)
	if !ok {
		return bad
	}
	r.Mul(r, big.NewRat(1e9, 1))
	switch {
	case !r.IsInt():
		return errors.New("value is too precise: at most nine decimals count")
	case !r.Num().IsInt64() || r.Sign() < 0:
		return errors.New("it is not a possible number of CPUs")
	}
	n := r.Num().Int64()
	p.w.Resources.NanoCPUs = nil
	if n != 0 {
		p.w.Resources.NanoCPUs = &n
	}
	return nil
}

// checkCPUList checks the kernel's list format: numbers and ascending ranges
// separated by commas. 8191 is the largest CPU number Linux is built for.
func checkCPUList(v string) error {
	for _, part := range strings.Split(v, ",") {
		lo, hi, isRange := strings.Cut(part, "-")
		if !isRange {
			hi = lo
		}
		a, err1 := strconv.ParseUint(lo, 10, 13)
		b, err2 := strconv.ParseUint(hi, 10, 13)
		if err1 != nil || err2 != nil || a > b {
			return errors.New("it takes numbers and ranges, such as 0-3,5")
		}
	}
	return nil
}

func (p *parser) setBlkioWeight(v string) error {
	n, err := strconv.ParseUint(v, 0, 16)
	if err != nil || (n != 0 && (n < 10 || n > 1000)) {
		return errors.New("it takes a number from 10 to 1000, or 0")
	}
	p.w.Resources.BlkioWeight = nil
	if n != 0 {
		w := uint16(n)
		p.w.Resources.BlkioWeight = &w
	}
	return nil
}

// cutDevice splits DEVICE:VALUE.
func cutDevice(v string) (dev, rest string, err error) {
	dev, rest, ok := strings.Cut(v, ":")
	if !ok || !strings.HasPrefix(dev, "/dev/") {
		return "", "", errors.New("it takes DEVICE:VALUE with a device below /dev/")
	}
	return dev, rest, clean(dev)
}

func (p *parser) setWeightDevice(v string) error {
	dev, rest, err := cutDevice(v)
	if err != nil {
		return err
	}
	n, err := strconv.ParseUint(rest, 10, 16)
	if err != nil || (n != 0 && (n < 10 || n > 1000)) {
		return errors.New("the weight is a number from 10 to 1000, or 0")
	}
	p.w.Resources.BlkioWeightDevice = append(p.w.Resources.BlkioWeightDevice, spec.WeightDevice{Path: dev, Weight: uint16(n)})
	return nil
}

func parseRateBytes(v string) (uint64, error) {
	n, err := parseSize(v)
	return uint64(n), err
}

func parseRateCount(v string) (uint64, error) {
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		return 0, errors.New("the rate is a number from 0")
	}
	return n, nil
}

func throttleTo(to func(*spec.Workload) *[]spec.Throttle, rate func(string) (uint64, error)) setter {
	return func(p *parser, v string) error {
		dev, rest, err := cutDevice(v)
		if err != nil {
			return err
		}
		n, err := rate(rest)
		if err != nil {
			return err
		}
		*to(p.w) = append(*to(p.w), spec.Throttle{Path: dev, Rate: n})
		return nil
	}
}

// setUlimit keeps the last value of each name, sorted by name.
func (p *parser) setUlimit(v string) error {
	u, err := units.ParseUlimit(v)
	switch {
	case errors.Is(err, strconv.ErrSyntax), errors.Is(err, strconv.ErrRange):
		return errors.New("a limit is a plain number without a unit, or -1 for none")
	case err != nil:
		return err
	}
	if u.Soft < -1 || u.Hard < -1 {
		return errors.New("a limit is a number from 0, or -1 for none")
	}
	got := spec.Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard}
	i, found := slices.BinarySearchFunc(p.w.Ulimits, got, func(a, b spec.Ulimit) int { return strings.Compare(a.Name, b.Name) })
	if found {
		p.w.Ulimits[i] = got
	} else {
		p.w.Ulimits = slices.Insert(p.w.Ulimits, i, got)
	}
	return nil
}

// minMemory is the least memory docker gives a container, in bytes.
const minMemory = 6 << 20

// given is the value of an optional number, 0 if not given.
func given(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}

func (p *parser) checkMemory() error {
	r := &p.w.Resources
	mem, soft, swap := given(r.Memory), given(r.MemoryReservation), given(r.MemorySwap)
	switch {
	case mem > 0 && mem < minMemory:
		return fmt.Errorf("--memory %d is below the minimum of 6m", mem)
	case soft > 0 && soft < minMemory:
		return fmt.Errorf("--memory-reservation %d is below the minimum of 6m", soft)
	case mem > 0 && soft > mem:
		return errors.New("--memory-reservation cannot be larger than --memory")
	case swap > 0 && mem == 0:
		return errors.New("--memory-swap needs --memory: it limits memory and swap together")
	case swap > 0 && swap < mem:
		return errors.New("--memory-swap cannot be smaller than --memory: it limits memory and swap together")
	}
	if r.MemoryReservation != nil && soft == 0 {
		r.MemoryReservation = nil
	}
	return nil
}

func (p *parser) checkCPU() error {
	r := &p.w.Resources
	period, quota := given(r.CPUPeriod), given(r.CPUQuota)
	rtPeriod, rtRuntime := given(r.CPURTPeriod), given(r.CPURTRuntime)
	switch {
	case given(r.NanoCPUs) > 0 && (period > 0 || quota > 0):
		return errors.New("conflicting options: --cpus cannot be used with --cpu-period or --cpu-quota")
	case period != 0 && (period < 1000 || period > 1000000):
		return errors.New("--cpu-period takes a number from 1000 to 1000000 microseconds")
	case quota > 0 && quota < 1000:
		return errors.New("--cpu-quota cannot be less than 1000 microseconds")
	case rtPeriod > 0 && rtRuntime > rtPeriod:
		return errors.New("--cpu-rt-runtime cannot be larger than --cpu-rt-period")
	}
	// 0 is docker's "not given".
	for _, n := range []**int64{&r.CPUPeriod, &r.CPUQuota, &r.CPUShares, &r.CPURTPeriod, &r.CPURTRuntime} {
		if *n != nil && **n == 0 {
			*n = nil
		}
	}
	return nil
}
