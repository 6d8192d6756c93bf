package main

import "golang.org/x/sys/unix"

func init() {
	mountTmpfs = func(dir, size string) (func(), error) {
		if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size="+size); err != nil {
			return nil, err
		}
		return func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }, nil
	}
}
