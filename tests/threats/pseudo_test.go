package threats

import "testing"

func TestP1(t *testing.T) {
	row(t, "P1")
	probed(t, "core_pattern")
	inModes(t, nil, "echo '|/x' >/proc/sys/kernel/core_pattern || echo no",
		prints("sh: can't create /proc/sys/kernel/core_pattern: Read-only file system\nno\n"))
}

func TestP2(t *testing.T) {
	row(t, "P2")
	inModes(t, nil, "echo x >/proc/sys/kernel/modprobe || echo no",
		prints("sh: can't create /proc/sys/kernel/modprobe: Read-only file system\nno\n"))
}
