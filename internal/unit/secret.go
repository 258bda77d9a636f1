package unit

import (
	"strings"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/lazyre"
	"github.com/safe-run/safe-run/spec"
)

// secretName is what variables with secrets are called. NAME_FILE and the
// like say where one is.
var secretName = lazyre.New(`(?i)(PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|CREDENTIAL|API_?KEY|PRIVATE_?KEY|ACCESS_?KEY|(^|_)(PASS|PWD|PW|KEY|AUTH|DSN)$)`)

var placeName = lazyre.New(`(?i)_(FILE|PATH|DIR|NAME|ID)$`)

// secretURL has a password in it.
var secretURL = lazyre.New(`[a-zA-Z][a-zA-Z0-9+.-]*://[^/@\s]*:[^/@\s]+@`)

// SecretLooking says whether a variable seems to hold a secret.
func SecretLooking(e spec.EnvVar) bool {
	if e.Value == nil || *e.Value == "" || e.Name == "PWD" {
		return false
	}
	return matches(secretName, e.Name) && !matches(placeName, e.Name) || matches(secretURL, *e.Value)
}

func exposed(env []spec.EnvVar) error {
	var names []string
	for _, e := range env {
		if SecretLooking(e) {
			names = append(names, e.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	shown := strings.Join(names, ", ")
	if len(shown) > 200 {
		shown = shown[:200] + "..."
	}
	return fail.New(fail.Usage, "the value of %q looks like a secret, and everybody can read a unit", shown).
		Hint("give it as a file: --secret ID, with the content in /etc/credstore/ID; or write -e NAME and set it in a file that EnvironmentFile= names; or use --env-file FILE")
}
