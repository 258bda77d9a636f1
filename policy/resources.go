package policy

import (
	"strconv"

	"github.com/docker/go-units"
)

// ulimit bounds one --ulimit. Names not in the table have no effect outside the
// container (cpu, data, fsize, rss, stack, rttime, locks).
type ulimit struct {
	name string
	most int64 // largest value; -1 of the user's is larger than any
	why  string
}

func ulimits(r *Request) []ulimit {
	memlock := int64(1) << 40
	if memory, limited := memoryLimit(r); limited {
		memlock = memory // locked memory is charged to the limit as any other
	}
	nofile := r.Site.Limits().MaxNofile
	if nofile == 0 {
		nofile = 1 << 20
	}
	return []ulimit{
		{"core", 1 << 30, "disk space of the host, filled by core dumps"},
		{"memlock", memlock, "memory that cannot be reclaimed"},
		{"nofile", nofile, "open files, each of which takes memory of the kernel"},
		{"nproc", 1 << 22, "processes without bounds (use --pids-limit)"},
		{"sigpending", 1 << 20, "signal queues in memory of the kernel"},
		{"msgqueue", 1 << 28, "message queues in memory of the kernel"},
		// 20 is nice 0 (getrlimit(2)); a larger limit lets it go before others.
		{"nice", 20, "CPU time of others, through priorities"},
		{"rtprio", 0, "CPU time of everything else: a real-time process runs until it stops"},
	}
}

func resourceRules() []Rule {
	return []Rule{
		{
			ID: "ulimit", Title: "Resource limits without a bound", Grant: "limits",
			GivesAway: "a brake on what one container can take",
			SaferWay:  "give a number",
			Check:     checkUlimits,
		},
		{
			ID: "memory-unlimited", Title: "No memory limit", Grant: "allow",
			GivesAway: "all memory and swap of the host: other services are killed before this container",
			SaferWay:  "give the size it needs: --memory 2g",
			Check: func(r *Request) []Finding {
				need := allow("memory-unlimited")
				res := r.Workload.Resources
				if res.Memory != nil && *res.Memory <= 0 {
					return []Finding{{Flag: "--memory " + strconv.FormatInt(*res.Memory, 10), Need: need}}
				}
				return when(res.MemorySwap != nil && *res.MemorySwap == -1, Finding{
					Flag: "--memory-swap -1", Need: need, Safer: "give memory and swap together as a size: --memory-swap 4g",
				})
			},
		},
		{
			ID: "pids-unlimited", Title: "No process limit", Grant: "allow",
			GivesAway: "all process ids of the host: a fork bomb stops everything",
			SaferWay:  "give a number: --pids-limit 2000",
			Check: func(r *Request) []Finding {
				n := r.Workload.Resources.PidsLimit
				if n == nil || *n > 0 {
					return nil
				}
				return []Finding{{Flag: "--pids-limit " + strconv.FormatInt(*n, 10), Need: allow("pids-unlimited")}}
			},
		},
		{
			ID: "limit-over-maximum", Title: "More than the site's maximum", Grant: "limits",
			GivesAway: "more of the host than the site gives to one container",
			SaferWay:  "ask for less",
			Check:     checkMaxima,
		},
		{
			ID: "cpu-rt", Title: "Real-time CPU time",
			GivesAway: "CPU time of everything else: a real-time process runs until it stops",
			SaferWay:  "use --cpus and --cpu-shares",
			Check: func(r *Request) (found []Finding) {
				for _, f := range []struct {
					name  string
					value *int64
				}{{"--cpu-rt-period", r.Workload.Resources.CPURTPeriod}, {"--cpu-rt-runtime", r.Workload.Resources.CPURTRuntime}} {
					if f.value != nil && *f.value != 0 {
						found = append(found, Finding{Flag: f.name + " " + strconv.FormatInt(*f.value, 10)})
					}
				}
				return found
			},
		},
		{
			ID: "oom-kill-disable", Title: "No out-of-memory killer",
			GivesAway: "memory that nothing can free any more: the container hangs at its limit, and the host with it",
			SaferWay:  "give it the memory it needs: --memory",
			Check: func(r *Request) []Finding {
				return when(r.Workload.OOMKillDisable, Finding{Flag: "--oom-kill-disable"})
			},
		},
		{
			ID: "oom-score-adj", Title: "Survival before services of the host",
			GivesAway: "services of the host, which are killed for lack of memory before this container",
			SaferWay:  "leave it out, or give a value from 0 to 1000",
			Check: func(r *Request) []Finding {
				adj := r.Workload.OOMScoreAdj
				if adj == nil || *adj >= 0 {
					return nil
				}
				return []Finding{{Flag: "--oom-score-adj " + strconv.Itoa(*adj)}}
			},
		},
	}
}

func checkUlimits(r *Request) (found []Finding) {
	for _, u := range r.Workload.Ulimits {
		for _, l := range ulimits(r) {
			over := u.Soft > l.most || u.Hard > l.most || u.Soft < 0 || u.Hard < 0
			if l.name != mode(u.Name) || !over {
				continue
			}
			f := Finding{
				Flag:  "--ulimit " + shown(u.Name) + "=" + strconv.FormatInt(u.Soft, 10) + ":" + strconv.FormatInt(u.Hard, 10),
				Why:   l.why,
				Safer: "give a number up to " + strconv.FormatInt(l.most, 10),
			}
			if l.name == "nofile" && u.Hard > 0 {
				f.Need = Need{Key: "limits", Value: "nofile: " + strconv.FormatInt(max(u.Soft, u.Hard), 10)}
			}
			found = append(found, f)
		}
	}
	return found
}

func checkMaxima(r *Request) (found []Finding) {
	l := r.Site.Limits()
	res := r.Workload.Resources
	over := func(flag, key string, asked *int64, most int64, text func(int64) string) {
		if asked == nil || most <= 0 || *asked <= most {
			return
		}
		found = append(found, Finding{
			Flag: flag + " " + text(*asked), Why: "more than the site's maximum of " + text(most),
			Need: Need{Key: "limits", Value: key + ": " + strconv.FormatInt(*asked, 10)},
		})
	}
	size := func(n int64) string { return units.BytesSize(float64(n)) }
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	over("--memory", "memory", res.Memory, l.MaxMemory, size)
	over("--memory-reservation", "memory", res.MemoryReservation, l.MaxMemory, size)
	over("--memory-swap", "memory", res.MemorySwap, l.MaxMemory, size)
	over("--pids-limit", "pids", res.PidsLimit, l.MaxPids, number)
	if f, hit := checkLog(r.Workload, l.MaxLog); hit {
		found = append(found, f)
	}

	cpus := 0.0
	switch {
	case res.NanoCPUs != nil:
		cpus = float64(*res.NanoCPUs) / 1e9
	case res.CPUQuota != nil:
		period := int64(100000) // the kernel's default, in microseconds
		if res.CPUPeriod != nil && *res.CPUPeriod > 0 {
			period = *res.CPUPeriod
		}
		cpus = float64(*res.CPUQuota) / float64(period)
	}
	if l.MaxCPUs > 0 && cpus > l.MaxCPUs {
		text := func(f float64) string { return strconv.FormatFloat(f, 'g', 6, 64) }
		found = append(found, Finding{
			Flag: "--cpus " + text(cpus), Why: "more than the site's maximum of " + text(l.MaxCPUs) + " CPUs",
			Need: Need{Key: "limits", Value: "cpus: " + text(cpus)},
		})
	}
	return found
}
