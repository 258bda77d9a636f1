package main

// As in nr_386.go.
const (
	nrKcmp         = 349
	nrFanotifyInit = 338
	nrSplice       = 313
	nrTee          = 315
	nrVmsplice     = 316
)

var obsoleteCalls = map[string]uintptr{
	"uselib": 86, "ustat": 62, "_sysctl": 149, "create_module": 127, "get_kernel_syms": 130,
	"query_module": 167, "nfsservctl": 169, "lookup_dcookie": 253, "vm86": 166, "vm86old": 113,
}
