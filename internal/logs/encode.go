package logs

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// special has the high bit set of the lowest byte of x that does not stand for
// itself in a JSON string as encoding/json writes it, which printable ASCII
// without " \ < > & does, and of no byte below it: SWAR, "Determine if a word
// has a byte equal to n" of Bit Twiddling Hacks, where a borrow makes no false
// match below a true one. What it has of bytes above says nothing.
func special(x uint64) uint64 {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	quote := (x | 0x04*ones) ^ 0x26*ones // " and &
	angle := (x | 0x02*ones) ^ 0x3e*ones // < and >
	slash := x ^ 0x5c*ones
	return (x | (x-0x20*ones)&^x | (quote-ones)&^quote | (angle-ones)&^angle | (slash-ones)&^slash) & highs
}

// plainRun is the number of leading bytes of p that stand for themselves.
func plainRun(p []byte) int {
	i := 0
	for ; i+8 <= len(p); i += 8 {
		if m := special(binary.LittleEndian.Uint64(p[i:])); m != 0 {
			return i + bits.TrailingZeros64(m)>>3
		}
	}
	for i < len(p) && isPlain(p[i]) {
		i++
	}
	return i
}

func isPlain(c byte) bool {
	return c >= 0x20 && c < 0x80 && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&'
}

// appendEscaped appends the inside of a JSON string, as encoding/json writes
// it: bytes that are no UTF-8 become U+FFFD. One byte becomes six at most.
func appendEscaped(b, p []byte) []byte {
	const hex = "0123456789abcdef"
	for len(p) > 0 {
		n := plainRun(p)
		b = append(b, p[:n]...)
		if p = p[n:]; len(p) == 0 {
			break
		}
		if c := p[0]; c < utf8.RuneSelf {
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\b':
				b = append(b, `\b`...)
			case '\f':
				b = append(b, `\f`...)
			case '\n':
				b = append(b, `\n`...)
			case '\r':
				b = append(b, `\r`...)
			case '\t':
				b = append(b, `\t`...)
			default:
				b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			}
			p = p[1:]
			continue
		}
		r, n := utf8.DecodeRune(p)
		switch {
		case r == utf8.RuneError && n == 1:
			b = append(b, `\ufffd`...)
		case r == '\u2028' || r == '\u2029':
			b = append(b, `\u202`...)
			b = append(b, hex[r&15])
		default:
			b = append(b, p[:n]...)
		}
		p = p[n:]
	}
	return b
}

// cut is where to split a line that is too long: at the end of p, or before a
// character that p holds only the start of.
func cut(p []byte) int {
	for i := len(p) - 1; i >= 0 && i >= len(p)-utf8.UTFMax+1; i-- {
		if utf8.RuneStart(p[i]) {
			if !utf8.FullRune(p[i:]) && i > 0 {
				return i
			}
			break
		}
	}
	return len(p)
}
