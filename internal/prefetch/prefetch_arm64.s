//go:build !purego

#include "textflag.h"

// func Bytes(b []byte)
TEXT ·Bytes(SB), NOSPLIT, $0-24
	MOVD b_base+0(FP), R0
	MOVD b_len+8(FP), R1
	CBZ  R1, done
	ADD  R0, R1
	AND  $~63, R0

	// Into the second level: there is room for a page there, and the first level keeps what is in use.
line:
	PRFM (R0), PLDL2KEEP
	ADD  $64, R0
	CMP  R1, R0
	BLO  line

done:
	RET
