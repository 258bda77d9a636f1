package clidocs

import (
	"fmt"
	"slices"
)

// Guide is a page of docs with the verbs it is about.
type Guide struct {
	File, Title string
	Verbs       []string
}

// seeAlso are links to the guides about a verb.
func seeAlso(verb string) (links []string) {
	for _, g := range Guides() {
		if slices.Contains(g.Verbs, verb) {
			links = append(links, fmt.Sprintf("[%s](../%s)", g.Title, g.File))
		}
	}
	return links
}

// Guides are the pages the pages of verbs link to.
func Guides() []Guide {
	return []Guide{
		{"containers.md", "containers in the background", []string{
			"attach", "container", "cp", "events", "exec", "inspect", "kill", "logs", "pause", "ps", "rename",
			"restart", "rm", "run", "start", "stats", "stop", "top", "unpause", "volume", "wait",
		}},
		{"network.md", "networks and ports", []string{"network", "port", "run"}},
		{"policy.md", "the site's policy", []string{"policy", "profile", "run", "compose", "import"}},
		{"profiles.md", "profiles", []string{"profile", "learn", "run", "import"}},
		{"learn.md", "learn, --explain, --complain", []string{"learn", "run"}},
		{"systemd.md", "services of systemd", []string{"generate", "run", "export", "start"}},
		{"audit.md", "audit and doctor", []string{"audit", "doctor"}},
		{"check.md", "what check reads", []string{"check"}},
		{"compose.md", "compose files", []string{"compose"}},
		{"export.md", "export and import", []string{"export", "import"}},
		{"kubernetes.md", "Kubernetes", []string{"export", "import"}},
		{"migrate.md", "moving from docker, podman, compose and Kubernetes", []string{"check", "import", "run", "compose"}},
		{"install.md", "installing", []string{"doctor", "engine", "completion"}},
	}
}
