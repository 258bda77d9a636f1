#include "textflag.h"

// func int80Getpid() int32
TEXT ·int80Getpid(SB), NOSPLIT, $0-4
	MOVL $20, AX // getpid of the 32-bit table
	INT  $0x80
	MOVL AX, ret+0(FP)
	RET
