package kubernetes

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// slug makes a DNS label of a name. What is changed by that gets a part of the
// name's hash, so that two names stay two.
func slug(name string, limit int) string {
	if len(name) <= limit && len(validation.IsDNS1123Label(name)) == 0 {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	plain := plainLabel(name)
	plain = strings.TrimRight(plain[:min(len(plain), limit-9)], "-")
	return strings.TrimLeft(plain+"-"+hex.EncodeToString(sum[:4]), "-")
}

// plainLabel keeps small letters, digits and single dashes.
func plainLabel(name string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(name) {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			b.WriteRune(r)
		} else if b.Len() > 0 && !strings.HasSuffix(b.String(), "-") {
			b.WriteByte('-')
		}
	}
	return strings.Trim(b.String(), "-")
}

// unique makes a label of a name that is not among those used.
func unique(used map[string]bool, name string) string {
	base := plainLabel(name)
	base = strings.Trim(base[:min(len(base), 50)], "-")
	if base == "" {
		base = "x"
	}
	name = base
	for i := 2; used[name]; i++ {
		name = base + "-" + strconv.Itoa(i)
	}
	used[name] = true
	return name
}

// serviceName: a Service's name begins with a letter (RFC 1035).
func serviceName(name string) string {
	if name[0] >= '0' && name[0] <= '9' {
		return slug("s-"+name, 63)
	}
	return name
}

// escape writes text so that Kubernetes, which puts variables in for $(NAME)
// and $ for $$, gives it back.
func escape(s string) string {
	if !strings.Contains(s, "$") {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		b.WriteByte(s[i])
		if s[i] == '$' && i+1 < len(s) && (s[i+1] == '$' || s[i+1] == '(') {
			b.WriteByte('$')
		}
	}
	return b.String()
}

// expand does what Kubernetes does with commands, arguments and values of
// variables (third_party/forked/golang/expansion). unknown is set if there is a
// reference to a variable whose value is not known here.
func expand(s string, lookup func(name string) (value string, known bool)) (out string, unknown bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '$' || i+1 >= len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		switch {
		case s[i] == '$':
			b.WriteByte('$')
		case s[i] == '(' && strings.IndexByte(s[i:], ')') > 0:
			end := i + strings.IndexByte(s[i:], ')')
			if v, ok := lookup(s[i+1 : end]); ok {
				b.WriteString(v)
			} else {
				b.WriteString("$" + s[i:end+1])
				unknown = true
			}
			i = end
		default:
			b.WriteString("$" + s[i:i+1])
		}
	}
	return b.String(), unknown
}

// labelKey says whether an object can have a label of that key and value.
func validLabel(key, value string) bool {
	return len(validation.IsQualifiedName(key)) == 0 && len(validation.IsValidLabelValue(value)) == 0
}

// validEnv says whether every Kubernetes takes a variable of that name.
func validEnv(name string) bool { return len(validation.IsEnvVarName(name)) == 0 }

// validKey says whether a ConfigMap or Secret can have such a key.
func validKey(name string) bool { return len(validation.IsConfigMapKey(name)) == 0 }
