package harness

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// serve starts the neighbour's services.
func (l *Lan) serve() error {
	return l.Inside(func() error {
		for _, port := range []string{":80", ":8443"} {
			h, err := net.Listen("tcp", port)
			if err != nil {
				return err
			}
			l.stop = append(l.stop, h)
			go answer(h)
		}
		d, err := net.ListenPacket("udp", ":53")
		if err != nil {
			return err
		}
		l.stop = append(l.stop, d)
		go l.names(d)
		u, err := net.ListenPacket("udp", ":7")
		if err != nil {
			return err
		}
		l.stop = append(l.stop, u)
		go echo(u)
		return nil
	})
}

func echo(c net.PacketConn) {
	b := make([]byte, 2048)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		_, _ = c.WriteTo(b[:n], from)
	}
}

// answer tells each client the address it comes from.
func answer(l net.Listener) {
	s := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		_, _ = io.WriteString(w, "you are "+host+"\n")
	})}
	_ = s.Serve(l)
}

// names answers questions for addresses of the names it knows: listed.test is
// the world, other.test the neighbour, rebind.test a metadata service.
func (l *Lan) names(c net.PacketConn) {
	known := map[string]string{"listed.test.": WorldAddr, "other.test.": LanAddr, "rebind.test.": "169.254.169.254"}
	b := make([]byte, 4096)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		var p dnsmessage.Parser
		h, err := p.Start(b[:n])
		if err != nil {
			continue
		}
		q, err := p.Question()
		if err != nil {
			continue
		}
		name := strings.ToLower(q.Name.String())
		l.asked.Store(name, true)
		r := dnsmessage.Message{Header: dnsmessage.Header{ID: h.ID, Response: true, RecursionAvailable: true}, Questions: []dnsmessage.Question{q}}
		a, ok := known[name]
		switch {
		case !ok:
			r.RCode = dnsmessage.RCodeNameError
		case q.Type == dnsmessage.TypeA:
			r.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 60},
				Body:   &dnsmessage.AResource{A: netip.MustParseAddr(a).As4()},
			}}
		}
		if msg, err := r.Pack(); err == nil {
			_, _ = c.WriteTo(msg, from)
		}
	}
}

// Asked says whether the neighbour's name server was asked for a name, which
// ends in a dot.
func (l *Lan) Asked(name string) bool {
	_, ok := l.asked.Load(name)
	return ok
}

// Get fetches a page, from the neighbour's namespace if there is one.
func Get(url string, from *Lan) (string, error) {
	dial := (&net.Dialer{FallbackDelay: -1}).DialContext
	if from != nil {
		// One address and no fallback: the dialer makes its socket on the thread
		// it is called on.
		dial = func(ctx context.Context, network, address string) (c net.Conn, err error) {
			ierr := from.Inside(func() error {
				c, err = (&net.Dialer{FallbackDelay: -1}).DialContext(ctx, network, address)
				return err
			})
			return c, ierr
		}
	}
	c := http.Client{Timeout: Patient(2 * time.Second), Transport: &http.Transport{DisableKeepAlives: true, DialContext: dial}}
	r, err := c.Get(url)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	var b bytes.Buffer
	_, err = io.Copy(&b, r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, r.Status)
	}
	return b.String(), err
}
