package properties

import "math/rand/v2"

// choices are decisions made of bytes: a fuzzer's, or a generator's. They never
// run dry: at the end each decision is the first one.
type choices struct{ data []byte }

// seeded gives the choices of a seed; the same for the same.
func seeded(seed uint64, n int) *choices {
	r := rand.New(rand.NewPCG(seed, 6))
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	return &choices{data}
}

func (c *choices) next() int {
	if len(c.data) == 0 {
		return 0
	}
	b := c.data[0]
	c.data = c.data[1:]
	return int(b)
}

// below gives a number from 0 to n-1.
func (c *choices) below(n int) int {
	if n <= 256 {
		return c.next() % n
	}
	return (c.next()<<8 | c.next()) % n
}

// oneIn says yes once in n times; with no bytes left, no.
func (c *choices) oneIn(n int) bool { return c.below(n) == n-1 }

func pick[T any](c *choices, list []T) T { return list[c.below(len(list))] }

// some gives up to n of a list, none of them twice.
func some[T any](c *choices, list []T, n int) (out []T) {
	seen := map[int]bool{}
	for range c.below(n + 1) {
		if i := c.below(len(list)); !seen[i] {
			seen[i] = true
			out = append(out, list[i])
		}
	}
	return out
}
