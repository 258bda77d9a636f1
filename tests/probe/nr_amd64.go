package main

// Numbers of system calls package syscall has no name for, x86-64.
// Source: arch/x86/entry/syscalls/syscall_64.tbl.
const (
	nrKexecLoad       = 246
	nrAddKey          = 248
	nrRequestKey      = 249
	nrKeyctl          = 250
	nrPerfEventOpen   = 298
	nrNameToHandleAt  = 303
	nrOpenByHandleAt  = 304
	nrClockSettime    = 227
	nrSetns           = 308
	nrProcessVMReadv  = 310
	nrProcessVMWritev = 311
	nrFinitModule     = 313
	nrBPF             = 321
	nrUserfaultfd     = 323
	nrQuotactl        = 179
	nrSysfs           = 139
)
