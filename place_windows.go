package alder

import (
	"os"

	"golang.org/x/sys/windows"
)

func fileIdentity(f *os.File) (number, made uint64, ok bool) {
	var d windows.ByHandleFileInformation
	if err := windows.GetFileInformationByHandle(windows.Handle(f.Fd()), &d); err != nil {
		return 0, 0, false
	}
	return uint64(d.FileIndexHigh)<<32 | uint64(d.FileIndexLow), uint64(d.CreationTime.Nanoseconds()), true
}
