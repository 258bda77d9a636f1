package learn

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// limitAdvice is about limits that stopped something.
func limitAdvice(all advices, rec Recording, w Context) {
	if rec.Limits.Memory {
		next := "-m with more"
		if w.Memory > 0 {
			next = "-m " + mebibytes(2*w.Memory)
		}
		all.add("memory", advice{rank: rankLimit, what: "memory", why: "a process was killed at the limit" + of(w.Memory, mebibytes), next: next}, "")
	}
	if rec.Limits.Pids {
		next := "--pids-limit with more"
		if w.Pids > 0 {
			next = fmt.Sprintf("--pids-limit %d", 2*w.Pids)
		}
		number := func(n int64) string { return strconv.FormatInt(n, 10) }
		all.add("pids", advice{rank: rankLimit, what: "processes", why: "a new one was refused at the limit" + of(w.Pids, number), next: next}, "")
	}
	for _, at := range rec.Limits.Tmpfs {
		size := int64(defaultTmpfs)
		if m := mountAt(w.Mounts, at); m != nil {
			if n, err := strconv.ParseInt(optionOf(m.Options, "size="), 10, 64); err == nil && n > 0 {
				size = n
			}
		}
		next := fmt.Sprintf("--tmpfs %s:size=%s", shown(at), mebibytes(2*size))
		if at == shmPath {
			next = "--shm-size " + mebibytes(2*size)
		}
		all.add("tmpfs "+at, advice{rank: rankLimit, what: shown(at), why: "the tmpfs of " + mebibytes(size) + " is full", next: next}, "")
	}
}

// FullTmpfs adds, to the mount points of tmpfs that were seen to be full, those
// that had no room for something. The recording's mounts have to be known.
func FullTmpfs(rec Recording, full []string) []string {
	for _, p := range rec.Paths {
		if m := mountAt(rec.Had.Mounts, p.Path); p.Errno == unix.ENOSPC && m != nil && m.Type == "tmpfs" {
			full = append(full, m.Destination)
		}
	}
	slices.Sort(full)
	return slices.Compact(full)
}

// roomAdvice is about a file system without room that is no tmpfs.
func roomAdvice(all advices, p PathUse, w Context) {
	if m := mountAt(w.Mounts, p.Path); m == nil || m.Type != "tmpfs" {
		at := "/"
		if m != nil {
			at = m.Destination
		}
		all.add("room "+at, advice{rank: rankLimit, what: shown(p.Syscall) + " " + shown(p.Path), why: "the file system at " + shown(at) + " is full", count: p.Count}, p.Process)
	}
}

func of(n int64, unit func(int64) string) string {
	if n <= 0 {
		return ""
	}
	return " of " + unit(n)
}

func optionOf(options []string, key string) (value string) {
	for _, o := range options {
		if v, ok := strings.CutPrefix(o, key); ok {
			value = v
		}
	}
	return value
}
