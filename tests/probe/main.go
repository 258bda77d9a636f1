// Probe runs inside a container and tells how far a program in there could
// get: it prints what the kernel grants it and tries to get out, harmlessly.
// It ends with 0 only if every attempt was blocked or had nothing to attack.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
)

// result is an attempt with its outcome, as --json prints it.
type result struct {
	ID      string  `json:"id"`
	Group   string  `json:"group"`
	What    string  `json:"what"`
	Verdict verdict `json:"verdict"`
	Errno   string  `json:"errno,omitempty"`
	Note    string  `json:"note,omitempty"`
}

// report is the whole answer.
type report struct {
	Arch    string          `json:"arch"`
	Facts   facts           `json:"facts"`
	Results []result        `json:"results"`
	Count   map[verdict]int `json:"count"`
}

// hostPIDNamespace is the inode of the first process namespace of a kernel
// (PROC_PID_INIT_INO in include/linux/proc_ns.h).
const hostPIDNamespace = "pid:[4026531836]"

func main() {
	if len(os.Args) == 3 && os.Args[1] == childWord {
		runChild(os.Args[2])
	}
	if len(os.Args) == 3 && os.Args[1] == "echo-udp" {
		fmt.Fprintln(os.Stderr, "probe:", echoUDP(os.Args[2]))
		os.Exit(2)
	}
	if len(os.Args) == 4 && os.Args[1] == "echo-udp" {
		fmt.Println(askUDP(os.Args[2], os.Args[3]))
		os.Exit(0)
	}
	if len(os.Args) > 2 && os.Args[1] == "notify" {
		fmt.Fprintln(os.Stderr, "probe:", notify(os.Args[2:]))
		os.Exit(2)
	}
	if len(os.Args) == 2 && os.Args[1] == "activated" {
		fmt.Fprintln(os.Stderr, "probe:", activated())
		os.Exit(2)
	}
	kernelWord(os.Args)
	exhaustWord(os.Args)
	asJSON := flag.Bool("json", false, "print JSON")
	here := flag.Bool("here", false, "run even outside a container")
	flag.Parse()
	if ns, _ := os.Readlink("/proc/self/ns/pid"); ns == hostPIDNamespace && !*here {
		fmt.Fprintln(os.Stderr, "probe: this is not a container (the process namespace is the machine's own); --here runs it anyway")
		os.Exit(2)
	}
	r := run()
	if *asJSON {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", " ")
		if err := enc.Encode(r); err != nil {
			fmt.Fprintln(os.Stderr, "probe:", err)
			os.Exit(2)
		}
	} else {
		printReport(os.Stdout, r)
	}
	if r.Count[open] > 0 {
		os.Exit(1)
	}
}

// groupOrder is the order of the headings.
var groupOrder = []string{
	"privileges held", "namespaces and processes", "system calls", "sockets", "mounts",
	"root file system", "kernel files", "cgroups", "devices", "terminal", "the host's own affairs",
}

func attempts(f facts) []attempt {
	all := slices.Concat(postureAttempts(f), childAttempts(), syscallAttempts(), socketAttempts(), fileAttempts(), kernelAttempts(), exhaustAttempts())
	slices.SortStableFunc(all, func(a, b attempt) int {
		return slices.Index(groupOrder, a.group) - slices.Index(groupOrder, b.group)
	})
	return all
}

func run() report {
	// First of all, before the probe opens anything of its own.
	stray := strayFDs()
	r := report{Arch: runtime.GOARCH, Facts: gather(), Count: map[verdict]int{}}
	for _, a := range attempts(r.Facts) {
		o := stray
		if a.id != "stray-fds" {
			o = a.try()
		}
		r.Count[o.verdict]++
		r.Results = append(r.Results, result{a.id, a.group, a.what, o.verdict, errnoName(o.errno), o.note})
	}
	return r
}

func printReport(w io.Writer, r report) {
	f := r.Facts
	zero := func(set string) string {
		if v := strings.TrimLeft(f.Capabilities[set], "0"); v != "" {
			return v
		}
		return "0"
	}
	fmt.Fprintf(w, "safe-run probe, %s, on %q\n\n", r.Arch, f.Hostname)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "  %-13s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("user", "uid %d, gid %d, groups %v; %s", f.UID, f.GID, f.Groups, mapText(f.UIDMap))
	line("capabilities", "inheritable %s, permitted %s, effective %s, bounding %s, ambient %s",
		zero("CapInh"), zero("CapPrm"), zero("CapEff"), zero("CapBnd"), zero("CapAmb"))
	line("kernel says", "no_new_privs %s, seccomp %s, lsm %s", f.NoNewPrivs, f.Seccomp, f.LSM)
	line("root", "%s", f.Root)
	line("writable", "%s (of %d mounts)", strings.Join(f.Writable, " "), f.Mounts)
	var limits []string
	for _, k := range []string{"memory", "memory+swap", "swap", "pids", "cpu", "nofile", "core"} {
		if v, ok := f.Limits[k]; ok {
			limits = append(limits, k+" "+v)
		}
	}
	line("limits", "%s", strings.Join(limits, ", "))

	width := 0
	for _, x := range r.Results {
		width = max(width, len(x.What))
	}
	group := ""
	for _, x := range r.Results {
		if x.Group != group {
			group = x.Group
			fmt.Fprintf(w, "\n%s\n", group)
		}
		why := strings.TrimSpace(x.Errno + "  " + x.Note)
		fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf("  %-*s  %-7s  %s", width, x.What, x.Verdict, why), " "))
	}
	fmt.Fprintf(w, "\n%d attempts: %d blocked, %d OPEN, %d absent from this kernel\n",
		len(r.Results), r.Count[blocked], r.Count[open], r.Count[absent])
}
