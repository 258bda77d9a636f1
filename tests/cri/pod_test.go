package cri

import "testing"

// exported is what safe-run export writes for a workload, as kubectl apply
// takes it.
func exported(t *testing.T, w workload, kind string) Objects {
	t.Helper()
	a := here.Run(w.words("export", "kubernetes", "--kind="+kind)...)
	if a.Code != 0 {
		t.Fatalf("export: %s", a)
	}
	o, err := Decode([]byte(a.Stdout))
	if err != nil {
		t.Fatalf("%v\n%s", err, a.Stdout)
	}
	return o
}
