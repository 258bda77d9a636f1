package cli

import (
	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/spec"
)

// Env reads the values of --env-file and -e of other verbs than run, by the
// same rules: files first, then flags; a nil Value removes the name. Errors
// are those of Parse.
func Env(ctx Context, files, flags []string) ([]spec.EnvVar, error) {
	p := &parser{ctx: ctx, inv: &Invocation{}, w: &spec.Workload{}, envFiles: files}
	for _, v := range flags {
		if err := p.setEnv(v); err != nil {
			return nil, fail.Wrap(fail.Usage, err, "--env")
		}
	}
	err := p.finishEnv()
	return p.w.Env, err
}
