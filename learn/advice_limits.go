package learn

import (
	"fmt"
	"strconv"
	"strings"
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
