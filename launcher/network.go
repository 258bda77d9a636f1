package launcher

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/safe-run/safe-run/network"
	"github.com/safe-run/safe-run/spec"
)

// reserveNetwork takes the container's addresses and ports, or holds the
// network it joins.
func (r *run) reserveNetwork(ctx context.Context) (err error) {
	if r.joined, err = r.join(ctx); err != nil {
		return err
	}
	if r.joined != nil {
		r.Workload.Hostname = r.joined.hostname(r.Store.Root)
		if err := r.noteJoined(r.joined.rec); err != nil {
			return err
		}
	}
	w := r.Workload
	r.net, err = r.Networks.Reserve(ctx, network.Ask{
		ID: r.rec.ID, Name: w.Name, Hostname: w.Hostname, Dir: r.entry.Dir,
		Uses: w.Networks, Publish: w.Publish, PublishAll: w.PublishAll,
		Exposed: slices.Concat(r.Image.Exposed, w.Expose), PublishDefault: r.PublishDefault,
		Egress: w.Egress, DNS: w.DNS, DNSSearch: w.DNSSearch, DNSOptions: w.DNSOptions,
		HolderName: r.holder, Notice: r.notice,
	})
	return errors.Join(err, fault("network"))
}

// noteJoined keeps the container whose network this one joins for later starts.
func (r *run) noteJoined(id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.asked.Joined == id {
		return nil
	}
	r.asked.Joined = id
	return r.Store.SaveAsked(r.rec.ID, r.asked)
}

func (r *run) notice(s string) {
	if r.Notice != nil {
		r.Notice(s)
	}
}

// holder names the container whose launcher a process is: the one whose lock
// it holds. Only asked for an error message.
func (r *run) holder(pid int) string {
	live, err := r.Store.Live()
	if err != nil {
		return ""
	}
	locks := map[uint64]string{}
	for _, id := range live {
		var st unix.Stat_t
		if unix.Stat(filepath.Join(r.Store.Run, "live", id), &st) == nil {
			locks[st.Ino] = id
		}
	}
	fds := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	entries, _ := os.ReadDir(fds)
	for _, e := range entries {
		var st unix.Stat_t
		if unix.Stat(filepath.Join(fds, e.Name()), &st) != nil {
			continue
		}
		if id, ok := locks[st.Ino]; ok {
			if rec, err := r.Store.Load(id); err == nil && rec.Name != "" {
				return "container " + rec.Name
			}
			return "container " + id[:12]
		}
	}
	return ""
}

// writeNames makes the files that names are looked up in: the container's
// own, or those of the container whose network it joins.
func (r *run) writeNames(files spec.HostFiles) error {
	if r.joined != nil {
		data, err := r.joined.contents(r.Store.Root)
		if err != nil {
			return err
		}
		return writeFiles(files, data, r.rec.Block)
	}
	data, err := contents(r.Workload, names{
		hostname: r.hostname(), addresses: r.net.Addresses(), gateway: r.net.Gateway(), resolv: r.net.ResolvConf(),
	})
	if err != nil {
		return err
	}
	return writeFiles(files, data, r.rec.Block)
}

// connect wires the network of the created container while the attestation
// looks at it.
func (r *run) connect(ctx context.Context) error {
	attested := make(chan error, 1)
	go func() {
		if r.Attest == nil {
			attested <- nil
			return
		}
		attested <- r.Attest(int(r.pid), r.spec, r.mapped(), false)
	}()
	err := r.net.Wire(ctx, int(r.pid))
	if err == nil && r.net.Late() { // into the files that are bound already
		err = r.writeNames(filesIn(r.entry.Dir))
	}
	return errors.Join(<-attested, err, fault("wire"))
}
