package cli

import (
	"github.com/spf13/pflag"

	"github.com/safe-run/safe-run/internal/fail"
)

// Given is a flag as it was given.
type Given struct{ Long, Value string }

// Word is the flag as one word.
func (g Given) Word() string { return "--" + g.Long + "=" + g.Value }

type noted struct {
	long string
	to   *[]Given
}

func (n *noted) String() string { return "" }
func (n *noted) Type() string   { return "value" }
func (n *noted) Set(v string) error {
	*n.to = append(*n.to, Given{n.long, v})
	return nil
}

// Split gives the flags of the words after run, in their order and by their
// long names, and the words after them. Values are not looked at. further are
// flags a verb takes besides, before the image as well.
func Split(args []string, further ...*pflag.Flag) (flags []Given, rest []string, err error) {
	fs := pflag.NewFlagSet("run", pflag.ContinueOnError)
	fs.SetInterspersed(false)
	fs.Usage = func() {}
	for _, f := range further {
		fs.AddFlag(f)
	}
	table := append(Own(), Table()...)
	for _, f := range table {
		if fs.Lookup(f.Long) != nil { // the verb's own
			continue
		}
		long := f.Long
		if f.AliasOf != "" {
			long = f.AliasOf
		}
		pf := fs.VarPF(&noted{long, &flags}, f.Long, f.Short, "")
		pf.NoOptDefVal = f.optional
		if f.Type == Bool {
			pf.NoOptDefVal = "true"
		}
	}
	if word := testWord(args, table); word != "" {
		return nil, nil, fail.New(fail.Usage, "unknown flag: %s", printable(word))
	}
	if err := fs.Parse(args); err != nil {
		return nil, nil, fail.New(fail.Usage, "%.200q", err.Error())
	}
	return flags, fs.Args(), nil
}
