package audit

import (
	"slices"
	"strconv"

	"github.com/docker/go-units"
)

func (g *grader) unknownLimit(name string) bool { return slices.Contains(g.f.Limits.Unknown, name) }

func (g *grader) memory() []Finding {
	switch m := g.f.Limits.Memory; {
	case g.unknownLimit("memory"):
		return finding(Info, "", "not known")
	case m == nil:
		return finding(Medium, bySafeRun+", or limit it: -m 512m", "none: it can take all memory of the host")
	default:
		return ok("%s", units.BytesSize(float64(*m)))
	}
}

func (g *grader) swap() []Finding {
	l := &g.f.Limits
	switch {
	case g.unknownLimit("swap"):
		return finding(Info, "", "not known: this kernel does not count it")
	case l.Memory == nil:
		return finding(Info, "", "without a memory limit it does not matter")
	case l.Swap == nil:
		return finding(Low, "limit it with memory: -m 512m --memory-swap 512m", "none: beyond its memory it can fill the host's swap")
	}
	return ok("%s", units.BytesSize(float64(*l.Swap)))
}

func (g *grader) pidsLimit() []Finding {
	switch p := g.f.Limits.Pids; {
	case g.unknownLimit("pids"):
		return finding(Info, "", "not known")
	case p == nil:
		return finding(Medium, bySafeRun+", or limit it: --pids-limit 256", "none: a fork bomb stops the host")
	default:
		return ok("%d", *p)
	}
}

func (g *grader) cpu() []Finding {
	if c := g.f.Limits.CPUs; c != nil {
		return ok("%s CPUs", strconv.FormatFloat(*c, 'g', 4, 64))
	}
	return finding(Info, "add --cpus 1 where others need the time", "none: others get their share, and no more")
}

func (g *grader) openFiles() []Finding {
	const many = 1 << 20
	switch n := g.f.Limits.OpenFiles; {
	case g.unknownLimit("open_files"):
		return finding(Info, "", "not known")
	case n == nil || *n > many:
		return finding(Low, bySafeRun+", or limit them: --ulimit nofile=65536", "more than %d", many)
	default:
		return ok("%d", *n)
	}
}

func (g *grader) core() []Finding {
	if c := g.f.Limits.Core; c != nil && *c == 0 {
		return ok("none")
	}
	return finding(Info, "add --ulimit core=0 if its memory holds secrets", "what it has in memory goes to the host's handler when it crashes")
}

func (g *grader) oomScore() []Finding {
	switch n := g.f.OOMScoreAdj; {
	case n <= -900:
		return finding(Medium, "leave --oom-score-adj and --oom-kill-disable out", "oom_score_adj is %d: when memory is short, the host's programs are killed before it", n)
	case n < 0:
		return finding(Low, "leave --oom-score-adj out", "oom_score_adj is %d: it is spared before the host's programs", n)
	default:
		return ok("oom_score_adj is %d", n)
	}
}

func (g *grader) ports() []Finding {
	var open, local []string
	for _, p := range g.f.Ports {
		if p.loopback() {
			local = append(local, p.String())
		} else {
			open = append(open, p.String())
		}
	}
	switch {
	case len(open)+len(local) == 0:
		return ok("none")
	case g.f.Namespaces["network"] != "host":
		return ok("in its own network: %s", some(slices.Concat(open, local)))
	case len(open) > 0:
		return finding(Low, "publish what must be seen, on one address: -p 127.0.0.1:8080:8080", "on the host: %s", some(open))
	}
	return finding(Info, "", "on the host's loopback: %s", some(local))
}

// overlap finds containers with the same ids on the host: a way out of one is
// a way into the other's files and processes.
func (g *grader) overlap() []Finding {
	var same, without, shared []string
	unknown := 0
	for _, o := range g.others {
		switch {
		case o.PID == g.f.PID:
		case len(o.UIDMap) == 0:
			unknown++
		case !overlaps(g.f.User.UIDMap, o.UIDMap):
		case o.UserNS != "" && o.UserNS == g.f.userNS && g.f.Namespaces["user"] == "own":
			shared = append(shared, printable(o.ID))
		case g.apart() && mapsRoot(o.UIDMap):
			// Root of that one has all ids of the host: its weakness, not this one's.
		case g.apart():
			same = append(same, printable(o.ID))
		default:
			without = append(without, printable(o.ID))
		}
	}
	switch {
	case len(same) > 0:
		return finding(Medium, bySafeRun+": it gives each container ids of its own", "it shares ids of the host with %s", some(same))
	case len(without) > 0:
		return finding(Low, "run all of them with safe-run: it gives each container ids of its own", "it shares ids of the host with %s", some(without))
	case len(shared) > 0:
		return finding(Low, bySafeRun+": it gives each container a user namespace of its own", "it is in one user namespace with %s", some(shared))
	case unknown > 0:
		return finding(Info, "", "not known of %s", plural(unknown, "other container"))
	}
	if len(g.others) == 0 {
		return ok("no other container runs")
	}
	return ok("none of %s has its ids", plural(len(g.others), "other container"))
}

func mapsRoot(m []IDRange) bool {
	return slices.ContainsFunc(m, func(r IDRange) bool { return r.Host == 0 && r.Count > 0 })
}

func overlaps(a, b []IDRange) bool {
	for _, x := range a {
		for _, y := range b {
			if x.Count > 0 && y.Count > 0 && x.Host < y.Host+y.Count && y.Host < x.Host+x.Count {
				return true
			}
		}
	}
	return false
}
