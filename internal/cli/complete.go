package cli

import (
	"slices"
	"strings"
)

// Complete gives the flags that word, after the words args of the main verb,
// may become, each with its explanation after a tab. files says that a file
// name is as good a guess as any: for the value of a flag, and after IMAGE.
func Complete(args []string, word string) (words []string, files bool) {
	table := append(Own(), Table()...)
	wants := false // a value of the flag before
	for _, a := range args {
		switch {
		case wants:
			wants = false
		case len(a) < 2 || a[0] != '-' || a == "--":
			return nil, true
		case !strings.Contains(a, "="):
			wants = takesNext(a, table)
		}
	}
	if wants || !strings.HasPrefix(word, "-") {
		return nil, wants
	}
	for _, f := range table {
		if name := "--" + f.Long; f.Visibility == Public && f.Disposition <= PolicyChecked && strings.HasPrefix(name, word) {
			words = append(words, name+"\t"+f.Usage)
		}
	}
	return words, false
}

// takesNext says whether a flag takes the next word for its value; of a group
// of short flags, the first that takes one takes the rest of the group if
// there is any.
func takesNext(word string, table []Flag) bool {
	valued := func(long, short string) bool {
		return slices.ContainsFunc(table, func(f Flag) bool {
			return f.Type != Bool && f.optional == "" && (f.Long == long || (f.Short != "" && f.Short == short))
		})
	}
	if long, ok := strings.CutPrefix(word, "--"); ok {
		return valued(long, "")
	}
	for i := 1; i < len(word); i++ {
		if valued("", word[i:i+1]) {
			return i == len(word)-1
		}
	}
	return false
}
