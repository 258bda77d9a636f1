package compose

import (
	"slices"
	"strings"
)

// handling is what becomes of a key.
type handling int

const (
	honoured    handling = iota // does what compose's does
	byPolicy                    // becomes a flag of which the policy refuses or bounds values
	noEffect                    // says nothing about containers on one host, or what is so anyway
	unsupported                 // is an error
)

// String gives the word used in the documentation.
func (h handling) String() string {
	return [...]string{"honoured", "policy", "no effect", "error"}[h]
}

// row says what becomes of keys below one path.
type row struct {
	under string // path of the mapping they are in; * any key, [] any item; "" the file
	keys  string // apart by blanks; KEY.** with all below it
	how   handling
	why   string // of noEffect and unsupported: why, and what to do
	to    string // the flags, or what else it becomes
}

// Reasons that several keys share.
const (
	whyStore   = "there is no store of secrets and configs; name a file with file"
	whyHooks   = "commands beside the container's own are not run; make them part of its program, or a service of their own others depend on"
	whyWindows = "it is for Windows containers"
	whySwarm   = "it is for clusters; there is one host here"
	whyModels  = "models are not served; run the server of the model as a service"
	whyBuild   = "images are not built here; build it elsewhere, load it with safe-run load -i FILE, and name it with image"
	whyDriver  = "network drivers are not supported; a CNI network of the site can be used with external: true"
)

// rows are all keys of the compose specification. A test walks its schema.
func rows() []row {
	return slices.Concat(fileRows(), serviceRows(), deployRows())
}

func fileRows() []row {
	return []row{
		{under: "", keys: "name services services.* networks networks.* volumes volumes.* secrets secrets.* configs configs.*"},
		{under: "", keys: "version", how: noEffect, why: "compose itself reads it no more"},
		{under: "", keys: "include", to: "local files"},
		{under: "include.[]", keys: "path project_directory env_file"},
		{under: "", keys: "models.**", how: unsupported, why: whyModels},
		{under: "", keys: "jobs.**", how: unsupported, why: "jobs are not run; make it a service others depend on with service_completed_successfully"},

		{under: "networks.*", keys: "name external external.name internal enable_ipv6 labels labels.*", to: "network create"},
		{under: "networks.*", keys: "driver", how: honoured, to: "bridge alone"},
		{under: "networks.*", keys: "attachable", how: noEffect, why: "any container may join here"},
		{under: "networks.*", keys: "enable_ipv4", how: honoured, to: "true alone"},
		{under: "networks.*", keys: "driver_opts.**", how: unsupported, why: whyDriver},
		{under: "networks.*", keys: "ipam ipam.driver ipam.config"},
		{under: "networks.*", keys: "ipam.options.**", how: unsupported, why: whyDriver},
		{under: "networks.*.ipam.config.[]", keys: "subnet", to: "network create --subnet"},
		{under: "networks.*.ipam.config.[]", keys: "gateway ip_range aux_addresses.**", how: unsupported, why: "addresses are handed out from the whole subnet, and its first is the gateway; give subnet alone"},

		{under: "volumes.*", keys: "name external external.name labels labels.*", to: "named volumes"},
		{under: "volumes.*", keys: "driver driver_opts driver_opts.*", how: byPolicy, to: "--mount volume-driver, volume-opt"},

		{under: "secrets.*", keys: "file environment", to: "--secret"},
		{under: "secrets.*", keys: "name labels labels.*", how: noEffect, why: "a secret is known by its key"},
		{under: "secrets.*", keys: "external.** driver driver_opts.** template_driver", how: unsupported, why: whyStore},
		{under: "configs.*", keys: "file content environment", to: "a read-only --volume"},
		{under: "configs.*", keys: "name labels labels.*", how: noEffect, why: "a config is known by its key"},
		{under: "configs.*", keys: "external.** template_driver", how: unsupported, why: whyStore},
	}
}

func serviceRows() []row {
	const s = "services.*"
	return []row{
		{under: s, keys: "image", to: "IMAGE"},
		{under: s, keys: "build.**", how: noEffect, why: "beside image; that image must be there already (--pull=never). Alone it is an error: " + whyBuild},
		{under: s, keys: "command entrypoint", to: "--entrypoint, arguments"},
		{under: s, keys: "container_name hostname domainname user working_dir group_add init tty stdin_open platform stop_signal", to: "--name, --hostname, --domainname, --user, --workdir, --group-add, --init, --tty, --interactive, --platform, --stop-signal"},
		{under: s, keys: "stop_grace_period", to: "--stop-timeout"},
		{under: s, keys: "environment environment.* env_file", to: "--env"},
		{under: s + ".env_file.[]", keys: "path required format", to: "format raw too"},
		{under: s, keys: "labels labels.* label_file", to: "--label"},
		{under: s, keys: "annotations annotations.*", how: byPolicy, to: "--annotation"},
		{under: s, keys: "depends_on depends_on.* depends_on.*.condition depends_on.*.required depends_on.*.restart", to: "the order of up"},
		{under: s, keys: "restart", to: "--restart"},
		{under: s, keys: "profiles extends extends.file extends.service", to: "as compose"},
		{under: s, keys: "scale", to: "1 alone"},
		{under: s, keys: "pull_policy", to: "--pull always, missing, never"},
		{under: s, keys: "pull_refresh_after", how: unsupported, why: "images are not refreshed by age; use pull_policy: always"},
		{under: s, keys: "attach", how: noEffect, why: "it is for what up shows; safe-run compose logs shows all"},
		{under: s, keys: "develop.**", how: noEffect, why: "nothing is watched or rebuilt"},

		{under: s, keys: "healthcheck healthcheck.test healthcheck.interval healthcheck.timeout healthcheck.retries healthcheck.start_period healthcheck.start_interval healthcheck.disable", to: "--health-*, --no-healthcheck"},
		{under: s, keys: "logging logging.driver logging.options logging.options.*", to: "--log-driver, --log-opt"},

		{under: s, keys: "cap_add cap_drop security_opt", how: byPolicy, to: "--cap-add, --cap-drop, --security-opt"},
		{under: s, keys: "privileged read_only", how: byPolicy, to: "--privileged, --read-only"},
		{under: s, keys: "userns_mode pid ipc uts cgroup cgroup_parent runtime", how: byPolicy, to: "--userns, --pid, --ipc, --uts, --cgroupns, --cgroup-parent, --runtime"},
		{under: s, keys: "devices device_cgroup_rules gpus", how: byPolicy, to: "--device, --device-cgroup-rule, --gpus"},
		{under: s + ".devices.[]", keys: "source target permissions", how: byPolicy, to: "--device"},
		{under: s + ".gpus.[]", keys: "driver count device_ids capabilities options options.*", how: byPolicy, to: "--gpus"},
		{under: s, keys: "sysctls sysctls.* use_api_socket", how: byPolicy, to: "--sysctl, --use-api-socket"},

		{under: s, keys: "mem_limit memswap_limit pids_limit ulimits ulimits.* ulimits.*.soft ulimits.*.hard shm_size", how: byPolicy, to: "--memory, --memory-swap, --pids-limit, --ulimit, --shm-size"},
		{under: s, keys: "mem_reservation mem_swappiness cpus cpu_shares cpu_period cpu_quota cpuset", to: "--memory-reservation, --memory-swappiness, --cpus, --cpu-shares, --cpu-period, --cpu-quota, --cpuset-cpus"},
		{under: s, keys: "cpu_rt_period cpu_rt_runtime oom_kill_disable oom_score_adj", how: byPolicy, to: "--cpu-rt-period, --cpu-rt-runtime, --oom-kill-disable, --oom-score-adj"},
		{under: s, keys: "blkio_config blkio_config.weight blkio_config.weight_device blkio_config.device_read_bps blkio_config.device_read_iops blkio_config.device_write_bps blkio_config.device_write_iops", to: "--blkio-weight, --device-read-bps and so on"},
		{under: s + ".blkio_config.weight_device.[]", keys: "path weight"},
		{under: s + ".blkio_config.device_read_bps.[]", keys: "path rate"},
		{under: s + ".blkio_config.device_read_iops.[]", keys: "path rate"},
		{under: s + ".blkio_config.device_write_bps.[]", keys: "path rate"},
		{under: s + ".blkio_config.device_write_iops.[]", keys: "path rate"},

		{under: s, keys: "tmpfs volumes volumes_from", how: byPolicy, to: "--tmpfs, --volume, --mount, --volumes-from"},
		{under: s + ".volumes.[]", keys: "type source target read_only bind bind.propagation bind.recursive bind.selinux volume volume.nocopy volume.subpath volume.labels volume.labels.* tmpfs tmpfs.size tmpfs.mode image image.subpath", how: byPolicy, to: "--volume, --mount, --tmpfs"},
		{under: s + ".volumes.[]", keys: "bind.create_host_path", how: noEffect, why: "a source that is missing is an error; it is never made"},
		{under: s + ".volumes.[]", keys: "consistency", how: noEffect, why: "on Linux they are the same files"},
		{under: s, keys: "secrets", to: "--secret"},
		{under: s + ".secrets.[]", keys: "source target uid gid mode", to: "--secret"},
		{under: s, keys: "configs", to: "a read-only --volume"},
		{under: s + ".configs.[]", keys: "source target"},
		{under: s + ".configs.[]", keys: "uid gid mode", how: noEffect, why: "a config has the owner and mode of its file, as with compose; what needs others is a secret"},

		{under: s, keys: "network_mode ports", how: byPolicy, to: "--network, --publish"},
		{under: s + ".ports.[]", keys: "target published host_ip protocol", how: byPolicy, to: "--publish"},
		{under: s + ".ports.[]", keys: "mode name app_protocol", how: noEffect, why: "there is one host"},
		{under: s, keys: "networks networks.* networks.*.aliases networks.*.ipv4_address networks.*.ipv6_address networks.*.mac_address networks.*.gw_priority networks.*.priority networks.*.use_service_name_alias", to: "--network, --network-alias, --ip, --ip6, --mac-address"},
		{under: s, keys: "networks.*.link_local_ips", how: unsupported, why: "link-local addresses, where clouds have their metadata services, are closed to containers; use ipv4_address"},
		{under: s, keys: "networks.*.driver_opts.** networks.*.interface_name", how: unsupported, why: "networks have no drivers; use sysctls for settings of the container's own network"},
		{under: s, keys: "dns dns_search dns_opt extra_hosts extra_hosts.* expose mac_address links", to: "--dns, --dns-search, --dns-option, --add-host, --expose, --mac-address; links are aliases"},
		{under: s, keys: "external_links", how: unsupported, why: "it opens one container to another; put both on a network of their own"},

		{under: s, keys: "credential_spec.** cpu_count cpu_percent", how: unsupported, why: whyWindows},
		{under: s, keys: "isolation", to: "default alone"},
		{under: s, keys: "storage_opt.**", how: unsupported, why: "the size of the root file system cannot be limited; it is read-only, and what can be written is a tmpfs or volume"},
		{under: s, keys: "umask", how: unsupported, why: "the umask is the program's own; set it in its command"},
		{under: s, keys: "pre_start.** post_start.** pre_stop.**", how: unsupported, why: whyHooks},
		{under: s, keys: "provider.**", how: unsupported, why: "a program of another kind makes it; run it yourself, and name what it serves in environment"},
		{under: s, keys: "models.**", how: unsupported, why: whyModels},
	}
}

func deployRows() []row {
	const d = "services.*.deploy"
	return []row{
		{under: "services.*", keys: "deploy"},
		{under: d, keys: "replicas", to: "1 alone"},
		{under: d, keys: "mode", to: "replicated, global"},
		{under: d, keys: "resources resources.limits resources.reservations"},
		{under: d, keys: "resources.limits.cpus resources.limits.memory resources.limits.pids", how: byPolicy, to: "--cpus, --memory, --pids-limit"},
		{under: d, keys: "resources.reservations.memory", to: "--memory-reservation"},
		{under: d, keys: "resources.reservations.cpus", how: noEffect, why: "CPUs are not reserved, by compose neither"},
		{under: d, keys: "resources.reservations.devices", how: byPolicy, to: "--gpus"},
		{under: d + ".resources.reservations.devices.[]", keys: "driver count device_ids capabilities options options.*", how: byPolicy, to: "--gpus"},
		{under: d, keys: "resources.reservations.generic_resources.**", how: unsupported, why: whySwarm},
		{under: d, keys: "restart_policy restart_policy.condition restart_policy.max_attempts", to: "--restart"},
		{under: d, keys: "restart_policy.delay restart_policy.window", how: noEffect, why: "the pause between starts grows by itself from 100 ms to a minute"},
		{under: d, keys: "labels labels.* placement.** update_config.** rollback_config.** endpoint_mode", how: noEffect, why: whySwarm},
	}
}

// keyNode is a place in the tree of all keys.
type keyNode struct {
	below map[string]*keyNode // by key, * or []
	row   *row
	all   bool // the row is for all below as well
}

// keyTree makes the tree of the rows.
func keyTree() *keyNode {
	root := &keyNode{}
	for _, r := range rows() {
		for key := range strings.FieldsSeq(r.keys) {
			path := strings.TrimPrefix(r.under+"."+key, ".")
			path, all := strings.CutSuffix(path, ".**")
			n := root
			for part := range strings.SplitSeq(path, ".") {
				n = n.add(part)
			}
			n.row, n.all = &r, all
		}
	}
	return root
}

func (n *keyNode) add(part string) *keyNode {
	if n.below == nil {
		n.below = map[string]*keyNode{}
	}
	if n.below[part] == nil {
		n.below[part] = &keyNode{}
	}
	return n.below[part]
}

// find gives the node of a key, nil if there is no such key.
func (n *keyNode) find(key string) *keyNode {
	if next := n.below[key]; next != nil && key != "*" && key != "[]" {
		return next
	}
	return n.below["*"]
}

// extension says whether a key is one that compose leaves to others.
func (n *keyNode) extension(key string) bool {
	return strings.HasPrefix(key, "x-") && n.below["*"] == nil
}
