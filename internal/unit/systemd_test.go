package unit

import (
	"errors"
	"testing"
)

// systemdWords are the words of a value that is one command, in which nothing
// is left to systemd.
func systemdWords(line string) ([]string, error) {
	all, err := Commands(line, nil)
	if err == nil && len(all) != 1 {
		err = errors.New("not one command")
	}
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// systemdLines gives the assignments of a unit file, "Section.Key" and value.
func systemdLines(text string) (all [][2]string, err error) {
	settings, err := Settings(text)
	for _, s := range settings {
		all = append(all, [2]string{s.Section + "." + s.Key, s.Value})
	}
	return all, err
}

func TestCommands(t *testing.T) {
	mark := func(s string) string { return "<" + s + ">" }
	for _, c := range []struct {
		value string
		want  string // words joined by |, commands by ;
	}{
		{`/bin/x a  b`, "/bin/x|a|b"},
		{`-/bin/x "a b" 'c"d' e\ f`, `/bin/x|a b|c"d|e\ f`},
		{`@/bin/x y z`, "/bin/x|z"},
		{`/bin/x "\x41\u00e9\101\n" \q`, "/bin/x|AéA\n|\\q"},
		{`/bin/x ; /bin/y "; z" \; ";"`, "/bin/x;/bin/y|; z|;|;"},
		{`/bin/x 100%% $$HOME %h-%i ${A}b $C $ % $1 "\x24D"`, "/bin/x|100%|$HOME|<%h>-<%i>|<${A}>b|<$C>|$|%|$1|<$D>"},
		{`/bin/x ""`, "/bin/x|"},
	} {
		all, err := Commands(c.value, mark)
		got := ""
		for i, one := range all {
			if i > 0 {
				got += ";"
			}
			for j, w := range one {
				if j > 0 {
					got += "|"
				}
				got += w
			}
		}
		if err != nil || got != c.want {
			t.Errorf("%s: %q %v, want %q", c.value, got, err, c.want)
		}
	}
	for _, bad := range []string{`/x "a`, "/x\n/y", "/x \xff"} {
		if all, err := Commands(bad, mark); err == nil {
			t.Errorf("%q: %q", bad, all)
		}
	}
	for _, bad := range []string{`-/x`, `/x %h`, `/x $A`, `/x \q`} {
		if all, err := Commands(bad, nil); err == nil {
			t.Errorf("%q: %q", bad, all)
		}
	}
}

// FuzzCommands: any value is words or an error, and words written by Word are
// read as themselves.
func FuzzCommands(f *testing.F) {
	for _, h := range hostile {
		f.Add(h)
	}
	f.Add(`/bin/x "a\x41" 'b' %h ${A} ; @y z`)
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := Commands(text, func(s string) string { return s }); err == nil {
			_, _ = Split(text)
		}
		_, _ = Settings(text)
		q, err := Word(text)
		if err != nil {
			return
		}
		all, err := Commands("/x "+q, nil)
		if err != nil || len(all) != 1 || len(all[0]) != 2 || all[0][1] != text {
			t.Fatalf("%q is written as %s and read as %q: %v", text, q, all, err)
		}
	})
}
