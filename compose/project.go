// Package compose reads compose files and says each of their services as a
// command line of safe-run.
//
// The files are loaded by the library the compose program itself uses, so that
// merging, extends, include, anchors and variables mean the same. What comes of
// a service is flags alone: whatever a file asks for is judged as if it had
// been typed. Every flag knows the key and the line it comes from. A key that
// is not honoured is an error; keys is the table of what becomes of each.
//
// Nothing is started, made or fetched here.
package compose

import (
	"fmt"

	"github.com/safe-run/safe-run/policy"
)

// Options say which files to load and how.
type Options struct {
	// Files are those of -f, later ones over earlier ones. Without any,
	// COMPOSE_FILE says them, or they are looked for in Dir and its parents by
	// compose's names, with the override file beside.
	Files       []string
	Dir         string   // working directory, absolute
	ProjectName string   // of -p; "": COMPOSE_PROJECT_NAME, the key name, or the directory's
	EnvFiles    []string // of --env-file; none: .env beside the first file, if there is one
	Profiles    []string // compose profiles that are on; none: COMPOSE_PROFILES
	Environ     []string // NAME=VALUE, for variables in the files
	// ProfileDir holds safe-run profiles: that of a service is SERVICE.yaml.
	ProfileDir string
	// ContentDir is the directory, absolute, in which the caller of Load
	// will make Service.Contents before a service runs. "": secrets and
	// configs that stand in no file of their own are errors.
	ContentDir string
}

// Project is what the files say. It holds plain values and survives JSON.
type Project struct {
	Name     string
	Dir      string    // where relative paths of the files start, absolute
	Files    []string  // all files that were read as compose files, absolute
	Services []Service // those that are on, each after those it depends on
	Off      []string  // names of those whose profiles are not on
	Networks []Network // those that services are on
	Volumes  []Volume  // those that services mount
	Config   []byte    // the files as one, merged and resolved, in YAML
	Notes    []Note
}

// Service is a service as a command line: safe-run FLAGS IMAGE ARGS.
type Service struct {
	Name          string
	ContainerName string // container_name, or PROJECT-SERVICE-1
	Image         string
	Flags         []Flag // neither -d nor --rm
	Args          []string
	DependsOn     []Dependency
	Networks      []string // names as in Network.Name, the one with the default route first
	Contents      []Content
	Place         Place
	// Hash is of everything that decides how the service runs: it changes
	// when the container has to be made anew. It is also in the flag
	// --label=com.docker.compose.config-hash.
	Hash string
}

// Flag is one word of a command line.
type Flag struct {
	Word  string // --NAME=VALUE
	Key   string // where it comes from, as services.web.cap_add[1]; "" for the project's own labels
	Place Place
}

// Content is a file a service mounts whose bytes stand in the compose file or
// in a variable.
type Content struct {
	Path string // absolute, below Options.ContentDir
	Data []byte
	// Secret content is for its owner alone (0600), else for all (0644).
	Secret bool
}

// Place is a line of a file.
type Place struct {
	File string // relative to Options.Dir if below it, else absolute
	Line int    // from 1; 0: somewhere in the file
}

// String gives FILE:LINE.
func (p Place) String() string {
	if p.Line == 0 {
		return printable(p.File)
	}
	return fmt.Sprintf("%s:%d", printable(p.File), p.Line)
}

// Dependency is a service another one waits for.
type Dependency struct {
	Service   string
	Condition string // service_started, service_healthy or service_completed_successfully
	Required  bool
	Restart   bool // the other is restarted with it
}

// Network is a network the services need.
type Network struct {
	Key      string // in the file
	Name     string // PROJECT_KEY, or what name says
	Internal bool
	IPv6     bool
	External bool // it is there already and stays
	Subnets  []string
	Labels   map[string]string
	Place    Place
}

// Volume is a named volume the services need.
type Volume struct {
	Key      string
	Name     string
	External bool
	Labels   map[string]string
	Place    Place
}

// Note is what a user should know and is no error.
type Note struct {
	Place Place
	Text  string
}

// Refused is a refusal of the policy with the place it comes from.
type Refused struct {
	Service string
	Place   Place
	Key     string
	policy.Refusal
}
