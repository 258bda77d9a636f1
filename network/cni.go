package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/safe-run/safe-run/internal/cni"
	"github.com/safe-run/safe-run/spec"
)

// cniUse is a container's part in a CNI network, by which it is given back.
type cniUse struct {
	Network   string `json:"network"`
	Interface string `json:"interface"`

	use   spec.NetworkUse
	addrs []netip.Addr // once it is connected
}

// attachment is what a container asks of a CNI network. Ports are published
// on the first one.
func (e *Endpoint) attachment(i int) (cni.Attachment, error) {
	u := e.st.CNI[i]
	a := cni.Attachment{ID: e.ask.ID, Interface: u.Interface, Aliases: u.use.Aliases}
	want, err := wantOf(u.use)
	if err != nil {
		return a, err
	}
	for _, ip := range []netip.Addr{want.V4, want.V6} {
		if ip.IsValid() {
			a.IPs = append(a.IPs, ip)
		}
	}
	a.MAC = want.MAC
	if i == 0 {
		a.Ports = e.st.Ports
	}
	return a, nil
}

// checkCNI refuses what the plugins could not do, before anything is made.
func (e *Endpoint) checkCNI() error {
	var errs error
	for i, n := range e.cni {
		a, err := e.attachment(i)
		if err == nil {
			err = n.Check(a)
		}
		errs = errors.Join(errs, err)
	}
	return errs
}

// wireCNI has the plugins of CNI networks connect the container. Only now it
// is known which addresses and name servers it has.
func (e *Endpoint) wireCNI(ctx context.Context) error {
	for i, n := range e.cni {
		a, err := e.attachment(i)
		if err != nil {
			return err
		}
		a.NetNS = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), e.nsfd.Fd())
		got, err := n.Setup(ctx, a)
		if err != nil {
			return err
		}
		for _, p := range got.Addrs {
			e.st.CNI[i].addrs = append(e.st.CNI[i].addrs, p.Addr())
		}
		if len(e.ask.DNS) == 0 {
			for _, s := range got.DNS.Nameservers {
				e.ask.DNS = append(e.ask.DNS, s.String())
			}
		}
		if len(e.ask.DNSSearch) == 0 {
			e.ask.DNSSearch = got.DNS.Search
		}
	}
	return e.planNames()
}

// Late says that the container's addresses were not known before Wire.
func (e *Endpoint) Late() bool { return len(e.st.CNI) > 0 }

// teardownCNI has the plugins take a container's part back.
func (h *Host) teardownCNI(ctx context.Context, s state) error {
	var errs error
	for _, u := range s.CNI {
		errs = errors.Join(errs, cni.Teardown(ctx, h.CNI, u.Network, s.ID, u.Interface))
	}
	return errs
}
