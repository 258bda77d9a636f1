package profiles

import (
	"embed"
	"slices"
	"strings"
)

//go:embed embedded/*.yaml
var embedded embed.FS

// Embedded gives the names of the profiles that come with the program, sorted.
func Embedded() []string {
	entries, err := embedded.ReadDir("embedded")
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	return names
}

// ForImage gives the name of the embedded profile that is for images of a
// repository, by the last part of its name ("docker.io/library/nginx"); "" if
// there is none. It reads one line of each file, and no YAML, so it may be
// asked at each launch.
func ForImage(repository string) string {
	last := repository[strings.LastIndexByte(repository, '/')+1:]
	last, _, _ = strings.Cut(last, "@")
	last, _, _ = strings.Cut(last, ":")
	if last == "" {
		return ""
	}
	for _, name := range Embedded() {
		if slices.Contains(forLine(name), last) {
			return name
		}
	}
	return ""
}

// forLine gives the words of an embedded profile's line for: [...]. A test
// holds the files to that form.
func forLine(name string) []string {
	data, err := embedded.ReadFile("embedded/" + name + ".yaml")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(data)) {
		if list, ok := strings.CutPrefix(line, "for: ["); ok {
			list, _, _ = strings.Cut(list, "]")
			return strings.Split(list, ", ")
		}
	}
	return nil
}
