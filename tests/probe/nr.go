package main

// Numbers that are the same on every architecture, as all since Linux 5.1.
const (
	nrPidfdSendSignal = 424
	nrIOUringSetup    = 425
	nrIOUringRegister = 427
	nrOpenTree        = 428
	nrMoveMount       = 429
	nrFsopen          = 430
	nrFspick          = 433
	nrClone3          = 435
	nrPidfdGetfd      = 438
	nrMountSetattr    = 442
	nrQuotactlFD      = 443
	nrNoSuch          = 9999
)
