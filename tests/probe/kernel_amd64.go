package main

// As in nr_amd64.go.
const (
	nrKcmp         = 312
	nrFanotifyInit = 300
	nrSplice       = 275
	nrTee          = 276
	nrVmsplice     = 278
)

var obsoleteCalls = map[string]uintptr{
	"uselib": 134, "ustat": 136, "_sysctl": 156, "create_module": 174, "get_kernel_syms": 177,
	"query_module": 178, "nfsservctl": 180, "lookup_dcookie": 212, "kexec_file_load": 320,
}
