//go:build unix

package measure

import (
	"syscall"
	"time"
)

func readRusage(u *Usage) {
	for _, who := range []int{syscall.RUSAGE_SELF, rusageChildren} {
		var r syscall.Rusage
		if syscall.Getrusage(who, &r) != nil {
			continue
		}
		u.User += time.Duration(r.Utime.Nano())
		u.System += time.Duration(r.Stime.Nano())
		u.MajorFaults += int64(r.Majflt)
		u.MinorFaults += int64(r.Minflt)
	}
}

const rusageChildren = -1
