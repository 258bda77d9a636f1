package main

import (
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/safe-run/safe-run/internal/cli"
)

// dockerConfig is what this program takes from docker's client configuration
// besides credentials.
type dockerConfig struct {
	DetachKeys string `json:"detachKeys"`
}

// clientConfig reads docker's config.json of the caller. A file that is
// missing or cannot be read says nothing.
func clientConfig() (c dockerConfig) {
	caller, err := cli.CallerOf(os.Geteuid(), os.LookupEnv)
	if err != nil {
		return c
	}
	dir := os.Getenv("DOCKER_CONFIG")
	if dir == "" || caller != nil {
		home, err := os.UserHomeDir()
		if err != nil {
			return c
		}
		dir = filepath.Join(home, ".docker")
	}
	b, err := caller.ReadFile(filepath.Join(dir, "config.json"), 1<<20)
	if err != nil || json.Unmarshal(b, &c) != nil {
		return dockerConfig{}
	}
	return c
}
