package policy

import (
	"math"
	"strconv"

	"github.com/docker/go-units"

	"github.com/safe-run/safe-run/spec"
)

// What json-file keeps of a container without options.
const (
	logFiles     = 3
	logFileBytes = 10 << 20
)

// checkLog bounds what a container's log files can take of the disk. Only
// json-file has files of its own.
func checkLog(w spec.Workload, most int64) (Finding, bool) {
	if w.LogDriver != "" && w.LogDriver != "json-file" || most <= 0 {
		return Finding{}, false
	}
	size, files := int64(logFileBytes), int64(logFiles)
	flag := ""
	if v, given := w.LogOpts["max-size"]; given {
		n, _ := units.RAMInBytes(v) // -1, if it is none
		if flag = "--log-opt max-size=" + shown(v); n <= 0 {
			return Finding{Flag: flag, Why: "it is no size, so that nothing bounds the log", Safer: "give a size: --log-opt max-size=10m"}, true
		}
		size = n
	}
	if v, given := w.LogOpts["max-file"]; given {
		n, err := strconv.ParseInt(v, 10, 64)
		if flag = join(flag, "--log-opt max-file="+shown(v)); err != nil || n <= 0 {
			return Finding{Flag: flag, Why: "it is no number of files, so that nothing bounds the log", Safer: "give a number: --log-opt max-file=3"}, true
		}
		files = n
	}
	total := int64(math.MaxInt64)
	if size <= math.MaxInt64/files {
		total = size * files
	}
	if total <= most || flag == "" {
		return Finding{}, false
	}
	return Finding{
		Flag: flag, Why: "more log files than the site's maximum of " + units.BytesSize(float64(most)),
		Safer: "ask for smaller or fewer files",
		Need:  Need{Key: "limits", Value: "log: " + strconv.FormatInt(total, 10)},
	}, true
}

func join(a, b string) string {
	if a == "" {
		return b
	}
	return a + " " + b
}
