package images

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
)

// resolver talks to registries: https, except to the loopback addresses and to
// mirrors the site's hosts.toml writes with http://.
func (s *Store) resolver(ctx context.Context) remotes.Resolver {
	plain := &plainHosts{}
	opts := config.HostOptions{
		Credentials: s.Credentials.lookup,
		UpdateClient: func(c *http.Client) error {
			if t, ok := c.Transport.(*http.Transport); ok && s.Sudo {
				t.Proxy = nil // http_proxy is the caller's
			}
			if _, ok := c.Transport.(guard); !ok {
				c.Transport = guard{c.Transport, plain}
			}
			c.CheckRedirect = checkRedirect
			return nil
		},
	}
	if s.CertsDir != "" {
		opts.HostDir = config.HostDirFromRoot(s.CertsDir)
	}
	hosts := config.ConfigureHosts(ctx, opts)
	return docker.NewResolver(docker.ResolverOptions{
		Hosts: func(name string) ([]docker.RegistryHost, error) {
			list, err := hosts(name)
			for _, h := range list {
				if h.Scheme == "http" {
					plain.allow(h.Host)
				}
			}
			return list, err
		},
	})
}

// plainHosts are the host:port the site configured for plain http.
type plainHosts struct {
	mu    sync.Mutex
	hosts map[string]bool
}

func (p *plainHosts) allow(host string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hosts == nil {
		p.hosts = map[string]bool{}
	}
	p.hosts[host] = true
}

func (p *plainHosts) allowed(host string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hosts[host]
}

// guard refuses plain http to where it was not configured, whoever asks for
// it: a redirect, or the token address in a registry's challenge, which would
// be sent the password.
type guard struct {
	next  http.RoundTripper
	plain *plainHosts
}

func (g guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" && !loopback(req.URL) && !g.plain.allowed(req.URL.Host) {
		return nil, fmt.Errorf("unencrypted http to %q is refused (allowed: loopback addresses, and http:// mirrors in hosts.toml)", req.URL.Host)
	}
	return g.next.RoundTrip(req)
}

func loopback(u *url.URL) bool {
	host := u.Hostname()
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// checkRedirect follows redirects, as registries use them for storage, and
// takes the credentials off when they lead to another host or port. Go does
// that only for another domain, not for another port or a subdomain.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return errors.New("stopped after 10 redirects")
	}
	if first := via[0].URL; req.URL.Host != first.Host || req.URL.Scheme != first.Scheme {
		for _, h := range []string{"Authorization", "Cookie", "Cookie2", "Proxy-Authorization"} {
			req.Header.Del(h)
		}
	}
	return nil
}
