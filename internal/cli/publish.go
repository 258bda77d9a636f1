package cli

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/safe-run/safe-run/spec"
)

func (p *parser) setPublish(v string) error {
	got, err := parsePublish(v)
	if err == nil {
		p.w.Publish = append(p.w.Publish, got)
	}
	return err
}

func (p *parser) setExpose(v string) error {
	r, err := spec.ParsePortRange(v)
	if err == nil {
		p.w.Expose = append(p.w.Expose, r)
	}
	return err
}

// parsePublish reads [IP:][HOST]:CONTAINER[/PROTO], or docker's CSV form, and
// has docker's errors (docker/go-connections, nat).
func parsePublish(v string) (pub spec.Publish, err error) {
	if err := clean(v); err != nil {
		return pub, err
	}
	if strings.Contains(v, "=") {
		if v, err = publishKeys(v); err != nil {
			return pub, err
		}
	}
	ip, host, container := splitPublish(v)
	ports, proto, _ := strings.Cut(container, "/")
	if proto == "" {
		proto = spec.TCP
	}
	pub.Ports.Proto = strings.ToLower(proto)
	if !slices.Contains([]string{spec.TCP, spec.UDP, spec.SCTP}, pub.Ports.Proto) {
		return pub, errors.New("invalid proto: " + proto)
	}
	if ports == "" {
		return pub, fmt.Errorf("no port specified: %s<empty>", v)
	}
	if ip != "" {
		if pub.HostIP, err = publishAddress(ip); err != nil {
			return pub, err
		}
	}
	var ok bool
	if pub.Ports.First, pub.Ports.Last, ok = portNumbers(ports); !ok || pub.Ports.First == 0 {
		return pub, errors.New("invalid containerPort: " + ports)
	}
	if host == "" {
		return pub, nil
	}
	first, last, ok := portNumbers(host)
	// 0 alone is any free port; a range cannot start with it.
	if !ok || first == 0 && last != 0 {
		return pub, errors.New("invalid hostPort: " + host)
	}
	inside := pub.Ports.Last - pub.Ports.First
	if last-first != inside && inside != 0 {
		return pub, fmt.Errorf("invalid ranges specified for container and host Ports: %s and %s", ports, host)
	}
	pub.HostFirst, pub.HostLast = first, last
	return pub, nil
}

// publishKeys turns the CSV form into the short one. Docker takes any other
// key and forgets it.
func publishKeys(v string) (string, error) {
	keys := map[string]string{"protocol": spec.TCP}
	for f := range strings.SplitSeq(v, ",") {
		key, val, ok := strings.Cut(f, "=")
		if !ok || key == "" {
			return "", fmt.Errorf("invalid publish opts format (should be name=value but got '%s')", f)
		}
		if !slices.Contains([]string{"published", "target", "protocol"}, key) || strings.ContainsAny(val, ":/") {
			return "", errors.New("its keys are published, target and protocol; an address is given as in IP:PORT:PORT")
		}
		keys[key] = val
	}
	return keys["published"] + ":" + keys["target"] + "/" + keys["protocol"], nil
}

func splitPublish(v string) (ip, host, container string) {
	i := strings.LastIndexByte(v, ':')
	if i < 0 {
		return "", "", v
	}
	host, container = v[:i], v[i+1:]
	if i := strings.LastIndexByte(host, ':'); i >= 0 {
		ip, host = host[:i], host[i+1:]
	}
	return ip, host, container
}

// publishAddress reads an address, brackets around it if it is of IPv6. An
// IPv4 address in IPv6's spelling is the IPv4 address.
func publishAddress(ip string) (netip.Addr, error) {
	inner := ip
	if strings.HasPrefix(ip, "[") && strings.HasSuffix(ip, "]") {
		inner = ip[1 : len(ip)-1]
	}
	a, err := netip.ParseAddr(inner)
	switch {
	case err == nil && a.Is6() && inner == ip:
		return a, fmt.Errorf("invalid IP address: %s (an IPv6 address stands in brackets)", ip)
	case err != nil || a.Zone() != "" || a.IsMulticast():
		return a, errors.New("invalid IP address: " + inner)
	}
	return a.Unmap(), nil
}

// portNumbers reads N or N-M, 0 to 65535.
func portNumbers(v string) (first, last uint16, ok bool) {
	from, to, isRange := strings.Cut(v, "-")
	if !isRange {
		to = from
	}
	lo, err1 := strconv.ParseUint(from, 10, 16)
	hi, err2 := strconv.ParseUint(to, 10, 16)
	return uint16(lo), uint16(hi), err1 == nil && err2 == nil && lo <= hi
}
