package main

// Numbers of system calls package syscall has no name for, 32-bit x86.
// Source: arch/x86/entry/syscalls/syscall_32.tbl.
const (
	nrKexecLoad       = 283
	nrAddKey          = 286
	nrRequestKey      = 287
	nrKeyctl          = 288
	nrPerfEventOpen   = 336
	nrNameToHandleAt  = 341
	nrOpenByHandleAt  = 342
	nrClockSettime    = 264
	nrSetns           = 346
	nrProcessVMReadv  = 347
	nrProcessVMWritev = 348
	nrFinitModule     = 350
	nrBPF             = 357
	nrUserfaultfd     = 374
	nrQuotactl        = 131
	nrSysfs           = 135
	nrSocket          = 359
	nrSocketpair      = 360
)
