package cni

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/utils"

	"github.com/safe-run/safe-run/internal/fail"
	"github.com/safe-run/safe-run/internal/ports"
)

// Attachment is a container's part in a network.
type Attachment struct {
	ID        string // of the container
	Interface string // name inside, as eth0
	NetNS     string // path of the container's network namespace, for Setup

	// What follows reaches the plugins by the capability of the same name
	// (CONVENTIONS.md of CNI).
	Ports   []ports.Mapping  // portMappings
	IPs     []netip.Addr     // ips: addresses asked for
	MAC     net.HardwareAddr // mac: hardware address asked for
	Aliases []string         // aliases: further names on the network
}

// Check says whether the network can give an attachment all it asks for: a
// plugin has to declare the capability.
func (n *Network) Check(a Attachment) error {
	have := map[string]bool{}
	for _, p := range n.list.Plugins {
		for capability, yes := range p.Network.Capabilities {
			have[capability] = have[capability] || yes
		}
	}
	for _, c := range []struct {
		asked      bool
		what, name string
	}{
		{len(a.Ports) > 0, "-p and -P", "portMappings"},
		{len(a.IPs) > 0, "--ip and --ip6", "ips"},
		{len(a.MAC) > 0, "--mac-address", "mac"},
		{len(a.Aliases) > 0, "--network-alias", "aliases"},
	} {
		if c.asked && !have[c.name] {
			return fail.New(fail.HostCannot, "%s cannot be had on the CNI network %q: none of its plugins declares the capability %s", c.what, n.Name, c.name)
		}
	}
	return nil
}

// capabilityArgs are the values for plugins that declare the capability.
func (a Attachment) capabilityArgs() (map[string]any, error) {
	args := map[string]any{}
	var mappings []map[string]any
	for _, m := range a.Ports {
		if !m.Host.IsValid() || m.HostPort == 0 || m.Port == 0 {
			return nil, fmt.Errorf("a port mapping is not complete: %v", m)
		}
		mappings = append(mappings, map[string]any{
			"hostIP": m.Host.String(), "hostPort": m.HostPort, "containerPort": m.Port, "protocol": m.Proto,
		})
	}
	var ips []string
	for _, ip := range a.IPs {
		ips = append(ips, ip.String())
	}
	for _, alias := range a.Aliases {
		if alias == "" || len(alias) > 253 || clean(alias) != alias || strings.ContainsAny(alias, " \"\\/") {
			return nil, fmt.Errorf("%.300q is not a name for a network", alias)
		}
	}
	if mappings != nil {
		args["portMappings"] = mappings
	}
	if ips != nil {
		args["ips"] = ips
	}
	if len(a.MAC) > 0 {
		args["mac"] = a.MAC.String()
	}
	if len(a.Aliases) > 0 {
		args["aliases"] = a.Aliases
	}
	return args, nil
}

// Setup runs the plugins for a container. What they have made is given back
// by Teardown, even after a crash; if Setup fails, it has been. Errors are
// HostCannot, or Conflict if the container is on the network already.
func (n *Network) Setup(ctx context.Context, a Attachment) (Result, error) {
	if err := n.Check(a); err != nil {
		return Result{}, err
	}
	if err := validAttachment(n.Name, a.ID, a.Interface); err != nil {
		return Result{}, err
	}
	args, err := a.capabilityArgs()
	if err != nil {
		return Result{}, fail.Wrap(fail.Usage, err, "the CNI network %q", n.Name)
	}
	k := n.cfg.kept(n.Name, a.ID, a.Interface)
	lock, err := k.begin(record{Config: n.list.Bytes, Args: args}, a.NetNS)
	if errors.Is(err, fs.ErrExist) {
		return Result{}, fail.New(fail.Conflict, "the container is on the CNI network %q already", n.Name)
	}
	if err != nil {
		return Result{}, fail.Wrap(fail.HostCannot, err, "the CNI network %q", n.Name)
	}
	r, err := n.add(ctx, k, args, lock)
	lock.Close()
	if err == nil {
		return r, nil
	}
	failed := fail.New(fail.HostCannot, "the CNI network %q", n.Name)
	failed.Err = errors.Join(err, Teardown(context.WithoutCancel(ctx), n.cfg, n.Name, a.ID, a.Interface))
	return Result{}, failed
}

func (n *Network) add(ctx context.Context, k kept, args map[string]any, lock lockFile) (Result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, pluginTime, fmt.Errorf("it took longer than %s", pluginTime))
	defer cancel()
	run := n.run
	run.lock = lock.File
	raw, err := libcni.NewCNIConfigWithCacheDir(run.dirs, n.cfg.CacheDir, &run).AddNetworkList(ctx, n.list, k.runtime(args, k.netns()))
	if err != nil {
		return Result{}, err
	}
	return readResult(raw, k.iface)
}

// Teardown has the plugins give back what a container has of a network, by
// what was kept of it at its Setup: the network may have changed or gone
// since. It is idempotent, and does nothing where there was no Setup.
//
// The container's network namespace lives until then, whether or not a
// process is in it, but for a restart of the host.
func Teardown(ctx context.Context, c Config, network, id, iface string) error {
	if err := validAttachment(network, id, iface); err != nil {
		return err
	}
	k := c.kept(network, id, iface)
	rec, lock, ok, err := k.open(ctx)
	if err != nil || !ok {
		return fail.Wrap(fail.HostCannot, err, "what is kept of the CNI network %q", network)
	}
	defer lock.Close()
	if rec.Config != nil { // it is not after a power failure
		list, err := libcni.NetworkConfFromBytes(rec.Config)
		if err != nil {
			return fail.Wrap(fail.Internal, err, "what is kept of the CNI network %q", network)
		}
		n, err := c.network(list)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeoutCause(ctx, pluginTime, fmt.Errorf("it took longer than %s", pluginTime))
		defer cancel()
		run := n.run
		run.lock = lock.File
		err = libcni.NewCNIConfigWithCacheDir(run.dirs, c.CacheDir, &run).DelNetworkList(ctx, list, k.runtime(rec.Args, k.netns()))
		if err != nil {
			return fail.Wrap(fail.HostCannot, err, "giving back the CNI network %q", network)
		}
	}
	return fail.Wrap(fail.HostCannot, k.forget(), "what is kept of the CNI network %q", network)
}

// runtime is what libcni wants to know of a container.
func (k kept) runtime(args map[string]any, netns string) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{ContainerID: k.id, IfName: k.iface, NetNS: netns, CapabilityArgs: args}
}

func validAttachment(network, id, iface string) error {
	if !validName(network) || !validName(id) || utils.ValidateInterfaceName(iface) != nil || clean(iface) != iface {
		return fail.New(fail.Internal, "CNI: %.100q, %.100q, %.20q are not a network, a container and an interface", network, id, iface)
	}
	return nil
}
