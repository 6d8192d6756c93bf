//go:build !purego

#include "textflag.h"

// func Bytes(b []byte)
TEXT ·Bytes(SB), NOSPLIT, $0-24
	MOVQ  b_base+0(FP), AX
	MOVQ  b_len+8(FP), CX
	TESTQ CX, CX
	JZ    done
	ADDQ  AX, CX
	ANDQ  $~63, AX

	// Into the second level: there is room for a page there, and the first level keeps what is in use.
line:
	PREFETCHT1 (AX)
	ADDQ $64, AX
	CMPQ AX, CX
	JLO  line

done:
	RET
