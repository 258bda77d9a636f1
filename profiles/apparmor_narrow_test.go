package profiles

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/safe-run/safe-run/internal/fail"
)

var webServer = AppArmorUse{Files: []AppArmorFile{
	{"/", "r"},
	{"/**", "mrk"},
	{"/usr/sbin/nginx", "mrix"},
	{"/run/nginx.pid", "rwk"},
	{"/var/lib/nginx/**", "rwk"},
	{"/var/log/nginx/*.log", "w"},
	{"/srv/NAME with blanks, file, capability,", "rl"},
	{"/srv/#include <x>", "r"},
	{"/srv/@x/-> y/", "r"},
}}

func TestNarrowAppArmor(t *testing.T) {
	n, err := NarrowAppArmor(webServer, []string{"CAP_NET_BIND_SERVICE", "CAP_CHOWN", "CAP_CHOWN"}, "/run/safe-run")
	if err != nil {
		t.Fatal(err)
	}
	if !narrowName(n.Name) || !strings.Contains(n.Text, "profile "+n.Name+" flags=(") || !strings.Contains(n.Text, "peer="+n.Name) {
		t.Error(n)
	}
	for _, want := range []string{"  capability chown,\n  capability net_bind_service,\n", "  \"/srv/NAME with blanks, file, capability,\" rl,\n"} {
		if strings.Count(n.Text, want) != 1 {
			t.Errorf("no %q in\n%s", want, n.Text)
		}
	}
	onlyRules(t, n, len(webServer.Files), 2)
	accepted(t, n.Text)

	same, _ := NarrowAppArmor(AppArmorUse{Files: append(webServer.Files[1:len(webServer.Files):len(webServer.Files)], webServer.Files[0])}, []string{"CAP_CHOWN", "CAP_NET_BIND_SERVICE"}, "/run/safe-run")
	if same != n {
		t.Error("the order of rules makes another profile")
	}
	for what, other := range map[string]func() (Narrowed, error){
		"capability": func() (Narrowed, error) { return NarrowAppArmor(webServer, []string{"CAP_CHOWN"}, "/run/safe-run") },
		"scope": func() (Narrowed, error) {
			return NarrowAppArmor(webServer, []string{"CAP_NET_BIND_SERVICE", "CAP_CHOWN"}, "/elsewhere")
		},
		"rule": func() (Narrowed, error) {
			return NarrowAppArmor(AppArmorUse{Files: webServer.Files[1:]}, []string{"CAP_NET_BIND_SERVICE", "CAP_CHOWN"}, "/run/safe-run")
		},
	} {
		if o, err := other(); err != nil || o.Name == n.Name {
			t.Errorf("another %s: %v, %v", what, o.Name, err)
		}
	}
}

// Every capability the specification knows is one to the parser.
func TestNarrowAllCapabilities(t *testing.T) {
	caps := strings.Fields("CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE " +
		"NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE " +
		"SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM " +
		"BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE")
	for i, c := range caps {
		caps[i] = "CAP_" + c
	}
	n, err := NarrowAppArmor(AppArmorUse{Files: []AppArmorFile{{"/**", "rwklmix"}}}, caps, "")
	if err != nil {
		t.Fatal(err)
	}
	onlyRules(t, n, 1, len(caps))
	accepted(t, n.Text)
}

func TestBadAppArmorRules(t *testing.T) {
	long := "/" + strings.Repeat("a", maxAppArmorPath)
	for _, f := range []AppArmorFile{
		{"", "r"},
		{"usr/bin/x", "r"},
		{"/a/../b", "r"},
		{"//a", "r"},
		{"/a//b", "r"},
		{"/./a", "r"},
		{"/a/.", "r"},
		{long, "r"},
		{"/a\" rwklx,\n", "r"},
		{"/a\nchange_profile,", "r"},
		{`/a\`, "r"},
		{"/@{HOME}/x", "r"},
		{"/{a,b}", "r"},
		{"/[a]", "r"},
		{"/a?", "r"},
		{"/a\x00", "r"},
		{"/ä", "r"},
		{"/a^", "r"},
		{"/a\u202e", "r"},
		{"/***", "r"},
		{"/a*b*", "r"},
		{"/**/a", "r"},
		{"/**/", "r"},
		{"/a**", "r"},
		{"/**a", "r"},
		{"/**/a/**", "r"},
		{"/**/*", "r"},
		{"/*/*/*", "r"},
		{"/a", ""},
		{"/a", "x"},
		{"/a", "ux"},
		{"/a", "Pix"},
		{"/a", "rr"},
		{"/a", "ixix"},
		{"/a", "xi"},
		{"/a", "i"},
		{"/a", "r,"},
		{"/a", "a"},
		{"/a", "r -> b"},
		{"/a", "R"},
		{"/a", "rixix"},
		{"/a", "iixx"},
	} {
		_, err := NarrowAppArmor(AppArmorUse{Files: []AppArmorFile{f}}, nil, "")
		if err == nil || fail.KindOf(err) != fail.Usage {
			t.Errorf("%q %q: %v", f.Path, f.Access, err)
		}
	}
	for _, caps := range [][]string{{""}, {"CAP_"}, {"CAP_A,"}, {"CAP_CHOWN,\nmount"}} {
		if _, err := NarrowAppArmor(webServer, caps, ""); err == nil {
			t.Errorf("%q", caps)
		}
	}
	if _, err := NarrowAppArmor(AppArmorUse{Files: make([]AppArmorFile, MaxAppArmorFiles+1)}, nil, ""); err == nil {
		t.Error("many rules")
	}
	if _, err := NarrowAppArmor(AppArmorUse{}, nil, ""); err == nil {
		t.Error("no rules")
	}
}

// onlyRules checks that a text is the built-in one with exactly so many file
// and capability rules more: what the rules say cannot become another rule.
func onlyRules(t *testing.T, n Narrowed, files, caps int) {
	t.Helper()
	before, after, _ := strings.Cut(AppArmor(n.Name), anyFile)
	rules, ok := strings.CutPrefix(n.Text, before+baseFiles)
	rules, ok2 := strings.CutSuffix(rules, after)
	if !ok || !ok2 {
		t.Fatalf("not the built-in one around the rules:\n%s", n.Text)
	}
	file := regexp.MustCompile(`^  "/[ !#->@-Z_` + "`" + `a-z|~]*" [rwklmix]+,$`)
	capability := regexp.MustCompile(`^  capability [a-z_]+,$`)
	for line := range strings.Lines(rules) {
		switch line = strings.TrimSuffix(line, "\n"); {
		case file.MatchString(line):
			files--
		case capability.MatchString(line):
			caps--
		default:
			t.Errorf("rule %q", line)
		}
	}
	if files != 0 || caps != 0 {
		t.Errorf("%d file rules and %d capabilities are missing", files, caps)
	}
}

func FuzzNarrowAppArmor(f *testing.F) {
	for _, r := range webServer.Files {
		f.Add(r.Path, r.Access, "CAP_CHOWN")
	}
	f.Add("/a\" r, change_profile,\n", "rix", "CAP_KILL,")
	f.Fuzz(func(t *testing.T, path, access, capability string) {
		n, err := NarrowAppArmor(AppArmorUse{Files: []AppArmorFile{{path, access}}}, []string{capability}, "s")
		if err == nil {
			onlyRules(t, n, 1, 1)
		}
	})
}

// What a file at its bounds may ask for is compiled within the parser's limits.
func TestNarrowCost(t *testing.T) {
	shapes := map[string]func(i int) string{
		"ends":          func(i int) string { return fmt.Sprintf("/*%x", i*2654435761) },
		"two names":     func(i int) string { return fmt.Sprintf("/*%x/*%x", i%16, i/16) },
		"within":        func(i int) string { return fmt.Sprintf("/%c*%c/%c*%c", 'a'+i%4, 'a'+i/4%4, 'a'+i/16%4, 'a'+i/64%4) },
		"places":        func(i int) string { return []string{"/%d/*/*/x", "/*/%d/*/x", "/*/*/%d/x"}[i%3] },
		"name and tree": func(i int) string { return fmt.Sprintf("/*%x/**", i*2654435761) },
	}
	for name, shape := range shapes {
		t.Run(name, func(t *testing.T) {
			var use AppArmorUse
			for i := range MaxAppArmorFiles {
				p := shape(i)
				if strings.Contains(p, "%d") {
					p = fmt.Sprintf(p, i)
				}
				use.Files = append(use.Files, AppArmorFile{p, "rwk"})
			}
			n, err := NarrowAppArmor(use, nil, "")
			if err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			accepted(t, n.Text)
			t.Log(time.Since(begin))
		})
	}
}

func TestUnloadOnlyOurs(t *testing.T) {
	for _, name := range []string{"", "docker-default", AppArmorName(), NarrowPrefix, NarrowPrefix + "0123456789abcde", NarrowPrefix + "0123456789abcdeg", NarrowPrefix + "0123456789abcdef\n", "x" + NarrowPrefix + "0123456789abcdef"} {
		if err := UnloadAppArmor(name); err == nil {
			t.Errorf("%q", name)
		}
	}
	if err := UnloadAppArmor(NarrowPrefix + "0123456789abcdef"); err != nil { // not loaded
		t.Error(err)
	}
}

// Rules are never left out: where they cannot be enforced nothing runs.
func TestNarrowNeedsKernel(t *testing.T) {
	if needAppArmor() == nil {
		t.Log("this kernel has AppArmor")
		return
	}
	n, err := NarrowAppArmor(webServer, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := LoadNarrowed(t.Context(), n); fail.KindOf(err) != fail.HostCannot {
		t.Error(err)
	}
	if err := RequireAppArmor("mine"); fail.KindOf(err) != fail.HostCannot {
		t.Error(err)
	}
	if err := RequireAppArmor(n.Name); fail.KindOf(err) != fail.Usage {
		t.Error(err)
	}
}
