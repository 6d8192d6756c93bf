package faultdisk

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Mounting. The tests run in a mount namespace of their own: when the last process in it ends, however it does, the kernel takes all of its
// mounts away, and with them the loop devices, which mount(8) makes so that they go with their last user.

const partEnv = "ALDER_FAULTDISK" // which part a process of the test binary plays: inside, disk, writer …

// parts are the processes that the test binary can be, but for the tests themselves.
var parts = map[string]func(argument string) error{
	"disk":    serveDisk,
	"writer":  func(argument string) error { return writer(argument, writeHonestly) },
	"hasty":   func(argument string) error { return writer(argument, writeHastily) },
	"failing": func(argument string) error { return writer(argument, writeUntilFailure) },
}

func TestMain(m *testing.M) {
	part, argument, _ := strings.Cut(os.Getenv(partEnv), " ")
	switch {
	case part == "inside":
		go func() { // whoever waits for us has died
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(1)
		}()
	case parts[part] != nil:
		signal.Ignore(syscall.SIGINT) // ends when its input does
		if err := parts[part](argument); err != nil {
			if part != "writer" { // it has said so
				fmt.Fprintf(os.Stderr, "%s: %v\n", part, err)
			}
			os.Exit(3)
		}
		os.Exit(0)
	case os.Getuid() == 0:
		if code, ok := runInside(); ok {
			os.Exit(code)
		}
	}
	os.Exit(m.Run())
}

// runInside lets this program run again, in a mount namespace of its own. ok is false if it may not have one.
func runInside() (code int, ok bool) {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), partEnv+"=inside")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return 0, false
	}
	defer stdin.Close()
	if err := cmd.Start(); err != nil {
		return 0, false // its tests say what they lack
	}
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	go func() {
		for s := range interrupts {
			_ = cmd.Process.Signal(s)
		}
	}()
	if err := cmd.Wait(); err != nil {
		return max(1, cmd.ProcessState.ExitCode()), true
	}
	return 0, true
}

// fileSystem is a kind of file system that stores are put on.
type fileSystem struct {
	name    string
	size    int64    // of an image that it fits in
	small   int64    // of the smallest useful one
	spare   int64    // how much must be free there for a store to go on
	format  []string // the command that makes one, without the file; none for tmpfs
	options string   // of mount
	super   []int64  // blocks of 4 KiB with superblocks; nil: the first one
	unique  bool     // the kernel remembers those that it has mounted, and refuses an older state of one: each store needs a new one
}

var (
	ext4 = fileSystem{"ext4", 128 << 20, 24 << 20, 2 << 20,
		[]string{"mkfs.ext4", "-q", "-F", "-J", "size=4", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"}, "errors=remount-ro", nil, false}
	xfs   = fileSystem{"xfs", 320 << 20, 320 << 20, 2 << 20, []string{"mkfs.xfs", "-q", "-f", "-K"}, "nouuid", nil, false}
	btrfs = fileSystem{"btrfs", 256 << 20, 128 << 20, 10 << 20, []string{"mkfs.btrfs", "-q", "-f", "-K"}, "defaults", []int64{64 << 10, 64 << 20}, true}
	tmpfs = fileSystem{"tmpfs", 256 << 20, 24 << 20, 2 << 20, nil, "defaults", nil, false}
)

// need skips a test on a machine that lacks what a file system of this kind needs.
func (f fileSystem) need(t *testing.T, more ...string) {
	t.Helper()
	if os.Getenv(partEnv) != "inside" {
		t.Skip("mounting a file system needs root, and a mount namespace")
	}
	known, err := os.ReadFile("/proc/filesystems")
	require.NoError(t, err)
	if !slices.Contains(strings.Fields(string(known)), f.name) {
		if err := exec.Command("modprobe", f.name).Run(); err != nil {
			t.Skipf("the kernel does not know %s: %v", f.name, err)
		}
	}
	if f.format != nil {
		if _, err := exec.LookPath(f.format[0]); err != nil {
			t.Skipf("needs %s", f.format[0])
		}
		more = append(more, "/dev/loop-control")
	}
	for _, name := range more {
		if _, err := os.Stat(name); err != nil {
			t.Skipf("needs %s: %v", name, err)
		}
	}
}

// image makes a file with an empty file system in it.
func (f fileSystem) image(t *testing.T, dir string, size int64) string {
	t.Helper()
	name := filepath.Join(dir, f.name+".img")
	require.NoError(t, os.WriteFile(name, nil, 0o600))
	require.NoError(t, os.Truncate(name, size))
	require.NoError(t, command(f.format[0], append(slices.Clone(f.format[1:]), name)...))
	return name
}

// mount mounts an image, or for tmpfs so many bytes, in a directory. A frozen disk keeps it waiting.
func (f fileSystem) mount(image, dir string, size int64) error {
	if f.format == nil {
		return command("mount", "-t", f.name, "-o", "size="+strconv.FormatInt(size, 10), "alder-faultdisk", dir)
	}
	return command("mount", "-t", f.name, "-o", "loop,"+f.options, image, dir)
}

// giveUp lets xfs stop to try again what a disk refuses that is served in dir. By default it goes on until it is unmounted: a mount whose disk is
// gone hangs for ever in its recovery, and nothing can end it.
func giveUp(dir string) {
	backing, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, name := range backing {
		if file, err := os.ReadFile(name); err != nil || !strings.HasPrefix(string(file), dir+"/") {
			continue
		}
		device := filepath.Base(filepath.Dir(filepath.Dir(name)))
		limits, _ := filepath.Glob("/sys/fs/xfs/" + device + "/error/metadata/*/max_retries")
		for _, limit := range limits {
			_ = os.WriteFile(limit, []byte("0"), 0) // it may just have ended
		}
	}
}

// unmount takes a file system away, at once from the directory, as soon as nobody uses it from the system.
func unmount(dir string) error {
	err := syscall.Unmount(dir, 0)
	for range 100 { // a killed process may still be on its way out
		if !errors.Is(err, syscall.EBUSY) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
		err = syscall.Unmount(dir, 0)
	}
	return errors.Join(fmt.Errorf("%s is still in use: %w", dir, err), syscall.Unmount(dir, syscall.MNT_DETACH))
}

// mounted mounts a plain image, whose disk does not fail, until the test ends.
func (f fileSystem) mounted(t *testing.T, size int64) (dir string) {
	t.Helper()
	work := tempDir(t)
	image := ""
	if f.format != nil {
		image = f.image(t, work, size)
	}
	dir = filepath.Join(work, "mounted")
	require.NoError(t, os.Mkdir(dir, 0o700))
	if err := f.mount(image, dir, size); err != nil {
		t.Skipf("%s cannot be mounted here: %v", f.name, err)
	}
	t.Cleanup(func() { require.NoError(t, unmount(dir)) })
	return dir
}

// tempDir is t.TempDir without the name of the test, which is too long for the names of some mounts.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "alder-disk-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// command runs a command of the system, for a minute at most.
func command(name string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// self is the test binary as one of its parts.
func self(part, argument string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), partEnv+"="+part+" "+argument)
	return cmd
}

// lines reads a process's output to its end.
func lines(out io.Reader, each func(line string) error) error {
	for in := bufio.NewReader(out); ; {
		line, err := in.ReadString('\n')
		if err != nil {
			return nil // the last line may be a part
		}
		if err := each(line); err != nil {
			return err
		}
	}
}
