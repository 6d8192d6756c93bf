package measure

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// Cage is a memory control group that this process has entered: its memory and the page cache that it fills are
// limited together, so that a file larger than the limit is read from the disk again and again.
type Cage struct {
	dir  string
	back string // the group to return to
}

// Limit puts this process into a control group of the given number of bytes. It needs the rights of root.
func Limit(bytes int64) (*Cage, error) {
	for _, kind := range []struct{ root, file string }{
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"},
		{"/sys/fs/cgroup", "memory.max"},
	} {
		if _, err := os.Stat(filepath.Join(kind.root, "cgroup.procs")); err != nil {
			continue
		}
		cage := &Cage{dir: cageOf(kind.root, os.Getpid()), back: kind.root}
		if err := os.Mkdir(cage.dir, 0o755); err != nil {
			return nil, fmt.Errorf("no memory control group can be made: %w", err)
		}
		limit := []byte(strconv.FormatInt(bytes, 10))
		if err := os.WriteFile(filepath.Join(cage.dir, kind.file), limit, 0o644); err != nil {
			return nil, errors.Join(fmt.Errorf("the memory control group takes no limit: %w", err), os.Remove(cage.dir))
		}
		if err := enter(cage.dir); err != nil {
			return nil, errors.Join(err, os.Remove(cage.dir))
		}
		return cage, nil
	}
	return nil, errors.New("this system has no memory control groups")
}

func cageOf(root string, pid int) string {
	return filepath.Join(root, fmt.Sprintf("alder-bench-%d", pid))
}

// Sweep removes the control group of a process that was ended within it, if there is one.
func Sweep(pid int) {
	for _, root := range []string{"/sys/fs/cgroup/memory", "/sys/fs/cgroup"} {
		// A group that is not there, or that the kernel still uses, is no reason to fail: it limits nobody.
		_ = os.Remove(cageOf(root, pid))
	}
}

func enter(group string) error {
	pid := []byte(strconv.Itoa(os.Getpid()))
	return os.WriteFile(filepath.Join(group, "cgroup.procs"), pid, 0o644)
}

// Close leaves the group and removes it.
func (c *Cage) Close() error {
	if err := enter(c.back); err != nil {
		return err
	}
	for range 50 { // the kernel needs a moment to take its pages out
		err := os.Remove(c.dir)
		if err == nil || !errors.Is(err, syscall.EBUSY) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("the control group %s stays busy", c.dir)
}
