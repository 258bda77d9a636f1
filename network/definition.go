package network

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/safe-run/safe-run/internal/fail"
)

// Definition is one network as created: the file network.json in the
// network's directory.
type Definition struct {
	Name     string            `json:"name"`
	ID       string            `json:"id"` // 64 hex digits, at random
	Created  time.Time         `json:"created"`
	Bridge   string            `json:"bridge"`  // the interface on the host
	Subnets  []netip.Prefix    `json:"subnets"` // at most one of each family, IPv4 first
	Internal bool              `json:"internal,omitempty"`
	ICC      bool              `json:"icc,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
}

const maxLabels = 64 << 10 // bytes of all keys and values

// parseDefinition reads the file of the network name, strictly.
func parseDefinition(name string, b []byte) (Definition, error) {
	var d Definition
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return Definition{}, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Definition{}, errors.New("there is something after its end")
	}
	if d.Name != name {
		return Definition{}, fmt.Errorf("it is about the network %.140q", d.Name)
	}
	return d, d.check()
}

// check says what is wrong with a definition that was read.
func (d Definition) check() error {
	if !validName(d.Name) {
		return fmt.Errorf("the name %.140q is none", d.Name)
	}
	if len(d.ID) != 64 || !isHex(d.ID) {
		return errors.New("the id is not 64 hexadecimal digits")
	}
	if !validBridge(d.Bridge) {
		return fmt.Errorf("the bridge %.40q is none of safe-run's", d.Bridge)
	}
	if len(d.Subnets) == 0 || len(d.Subnets) > 2 || len(d.Subnets) == 2 && (!d.Subnets[0].Addr().Is4() || d.Subnets[1].Addr().Is4()) {
		return errors.New("the subnets are not one of IPv4, one of IPv6, or both in this order")
	}
	for _, p := range d.Subnets {
		if err := checkSubnet(p); err != nil {
			return err
		}
	}
	return checkLabels(d.Labels)
}

func checkLabels(labels map[string]string) error {
	n := 0
	for k, v := range labels {
		if k == "" || strings.ContainsFunc(k+v, func(r rune) bool { return r < 0x20 || r == 0x7f || r == 0xfffd }) {
			return fail.New(fail.Usage, "the label %.80q is empty or has control characters", k)
		}
		n += len(k) + len(v)
	}
	if n > maxLabels {
		return fail.New(fail.Usage, "the labels have %d bytes, at most %d are kept", n, maxLabels)
	}
	return nil
}

// validName is docker's rule; such a name is also a file name.
func validName(s string) bool {
	return s != "" && len(s) <= 128 && isAlnum(s[0]) &&
		!strings.ContainsFunc(s, func(r rune) bool {
			return r > 0x7f || !isAlnum(byte(r)) && r != '_' && r != '.' && r != '-'
		})
}

func isAlnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func isHex(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return (r < '0' || r > '9') && (r < 'a' || r > 'f') })
}

func validBridge(s string) bool {
	if h, ok := strings.CutPrefix(s, "sr-"); ok {
		return len(h) == 8 && isHex(h)
	}
	h, ok := strings.CutPrefix(s, "sr")
	return s == "saferun0" || ok && len(h) == 12 && isHex(h)
}
