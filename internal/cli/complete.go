package cli

import (
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// Complete gives the flags that word, after the words args of the main verb,
// may become, each with its explanation after a tab. files says that a file
// name is as good a guess as any: for the value of a flag, and after IMAGE.
// values gives the values a flag is known to have, by its long name; further
// are flags as Split takes them.
func Complete(args []string, word string, values func(long string) []string, further ...*pflag.Flag) (words []string, files bool) {
	table := append(Own(), Table()...)
	for _, f := range further {
		table = append(table, Flag{Long: f.Name, Short: f.Shorthand, optional: f.NoOptDefVal, Visibility: Hidden})
	}
	wants := "" // a value: the flag before
	for _, a := range args {
		switch {
		case wants != "":
			wants = ""
		case len(a) < 2 || a[0] != '-' || a == "--":
			return nil, true
		case !strings.Contains(a, "="):
			wants = takesNext(a, table)
		}
	}
	if flag, value, ok := strings.Cut(word, "="); ok && wants == "" {
		wants, word = takesNext(flag, table), value
	}
	if wants != "" {
		for _, v := range values(wants) {
			if strings.HasPrefix(v, word) {
				words = append(words, v)
			}
		}
		return words, true
	}
	if !strings.HasPrefix(word, "-") {
		return nil, false
	}
	for _, f := range table {
		if name := "--" + f.Long; f.Visibility == Public && f.Disposition <= PolicyChecked && strings.HasPrefix(name, word) {
			words = append(words, name+"\t"+f.Usage)
		}
	}
	return words, false
}

// takesNext gives the long name of the flag that takes the next word for its
// value, "" if none does; of a group of short flags, the first that takes one
// takes the rest of the group if there is any.
func takesNext(word string, table []Flag) string {
	valued := func(long, short string) string {
		i := slices.IndexFunc(table, func(f Flag) bool {
			return f.Type != Bool && f.optional == "" && (f.Long == long || (f.Short != "" && f.Short == short))
		})
		if i < 0 {
			return ""
		}
		return table[i].Long
	}
	if long, ok := strings.CutPrefix(word, "--"); ok {
		return valued(long, "")
	}
	for i := 1; i < len(word); i++ {
		if long := valued("", word[i:i+1]); long != "" {
			if i < len(word)-1 {
				return ""
			}
			return long
		}
	}
	return ""
}
