package logs

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// entry is one line of a json-file. Its slices are good until the next one is
// decoded.
type entry struct {
	text   []byte
	stream byte
	attrs  []byte // JSON object, or nil
	time   time.Time

	stamp []byte // what time was read from
}

// decode reads what files writes, and nothing else: any other line is not an
// entry, and false.
func (e *entry) decode(line []byte) bool {
	rest, ok := bytes.CutPrefix(line, []byte(entryHead))
	if !ok {
		return false
	}
	if e.text, rest, ok = appendUnescaped(e.text[:0], rest); !ok {
		return false
	}
	if r, ok := bytes.CutPrefix(rest, []byte(`,"stream":"stdout"`)); ok {
		e.stream, rest = Stdout, r
	} else if r, ok := bytes.CutPrefix(rest, []byte(`,"stream":"stderr"`)); ok {
		e.stream, rest = Stderr, r
	} else {
		return false
	}
	// Inside a string each quote is escaped, so this is not in an attribute.
	attrs, stamp, ok := bytes.Cut(rest, []byte(`,"time":"`))
	if !ok {
		return false
	}
	e.attrs = nil
	if len(attrs) > 0 {
		if e.attrs, ok = bytes.CutPrefix(attrs, []byte(`,"attrs":`)); !ok {
			return false
		}
	}
	if stamp, ok = bytes.CutSuffix(stamp, []byte(`"}`)); !ok || len(stamp) > len(time.RFC3339Nano) {
		return false
	}
	// The entries of one chunk have the same time.
	if !bytes.Equal(stamp, e.stamp) {
		t, err := time.Parse(time.RFC3339Nano, string(stamp))
		if err != nil {
			return false
		}
		e.stamp, e.time = append(e.stamp[:0], stamp...), t.UTC()
	}
	return true
}

// appendUnescaped appends the text of a JSON string of which p is what follows
// the opening quote, and gives what follows the closing one.
func appendUnescaped(b, p []byte) (text, rest []byte, ok bool) {
	for {
		n := plainRun(p)
		b = append(b, p[:n]...)
		if p = p[n:]; len(p) == 0 {
			return b, p, false
		}
		switch {
		case p[0] == '"':
			return b, p[1:], true
		case p[0] != '\\':
			b = append(b, p[0])
			p = p[1:]
			continue
		case len(p) < 2:
			return b, p, false
		}
		c := p[1]
		p = p[2:]
		switch c {
		case '"', '\\', '/':
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			r := hex4(p)
			if r < 0 {
				return b, p, false
			}
			p = p[4:]
			if utf16.IsSurrogate(r) {
				pair := utf8.RuneError
				if len(p) >= 6 && p[0] == '\\' && p[1] == 'u' {
					pair = utf16.DecodeRune(r, hex4(p[2:]))
				}
				if r = pair; r != utf8.RuneError {
					p = p[6:]
				}
			}
			b = utf8.AppendRune(b, r)
			continue
		default:
			return b, p, false
		}
		b = append(b, c)
	}
}

// hex4 is the number of four hex digits, or -1.
func hex4(p []byte) rune {
	if len(p) < 4 {
		return -1
	}
	var r rune
	for _, c := range p[:4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}

// appendDetails appends attributes as docker's --details prints them: sorted,
// escaped as in a URL's query, and a space.
func appendDetails(b, attrs []byte) []byte {
	var m map[string]string
	if len(attrs) > 0 && json.Unmarshal(attrs, &m) != nil {
		m = nil
	}
	var words []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		words = append(words, url.QueryEscape(k)+"="+url.QueryEscape(m[k]))
	}
	return append(append(b, strings.Join(words, ",")...), ' ')
}
