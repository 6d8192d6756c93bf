package alder

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const testBlock = 4096

// storageDir makes a directory that is removed when the test ends. It is not t.TempDir, whose removal fails the test
// where the system cannot remove a directory (wine).
func storageDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "alder-storage-")
	require.NoError(t, err)
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Logf("left behind: %v", err)
		}
	})
	return dir
}

// openFileFor opens a storage file and closes it when the test ends.
func openFileFor(t testing.TB, path string, o fileOptions) *fileStorage {
	t.Helper()
	s, _, err := openFileStorage(path, 0o600, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.close()) })
	return s
}

// newStorage opens a storage in a new file.
func newStorage(t testing.TB, o fileOptions) *fileStorage {
	t.Helper()
	return openFileFor(t, filepath.Join(storageDir(t), "store"), o)
}

// newPrivate opens a private storage over a new file with the given content.
func newPrivate(t testing.TB, content []byte, limit int64) (*privateStorage, string) {
	t.Helper()
	path := filepath.Join(storageDir(t), "store")
	require.NoError(t, os.WriteFile(path, content, 0o600))
	base, _, err := openFileStorage(path, 0, fileOptions{readOnly: true})
	require.NoError(t, err)
	s, err := newPrivateStorage(base, limit)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.close()) })
	return s, path
}

// eachStorage runs the test over every kind of storage, empty at first.
func eachStorage(t *testing.T, test func(t *testing.T, s storage)) {
	t.Run("file", func(t *testing.T) { test(t, newStorage(t, fileOptions{})) })
	t.Run("file remapped", func(t *testing.T) { test(t, newStorage(t, fileOptions{reserveAtMost: 1})) })
	t.Run("file without synchronous descriptor", func(t *testing.T) {
		s := newStorage(t, fileOptions{})
		for _, d := range s.synchronous {
			if d.f != nil {
				require.NoError(t, d.f.Close())
			}
		}
		s.synchronous = nil
		test(t, s)
	})
	for name, reserve := range map[string]int64{"memory": 0, "memory copied": 1} {
		t.Run(name, func(t *testing.T) {
			s, err := newMemoryStorage(reserve)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, s.close()) })
			test(t, s)
		})
	}
	t.Run("private", func(t *testing.T) {
		s, _ := newPrivate(t, nil, 64<<20)
		test(t, s)
	})
}

func randomBytes(rng *rand.Rand, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(rng.Uint32())
	}
	return p
}

// Ensures that what is written is seen through the mapping at once and by readAt, that growth and truncation followed by
// growth give zeros, and that the mapping always reaches to the store's end.
func TestStorage_AgainstSlice(t *testing.T) {
	t.Parallel()
	eachStorage(t, func(t *testing.T, s storage) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		rng := rand.New(rand.NewPCG(seed, 1))
		var want []byte
		var stale []*mapping
		for range 300 {
			before := s.mapping()
			switch k := rng.IntN(10); {
			case k < 3 || len(want) == 0:
				n := len(want) + testBlock*(1+rng.IntN(40))
				require.NoError(t, s.grow(int64(n)))
				want = append(want, make([]byte, n-len(want))...)
			case k == 3:
				n := testBlock * rng.IntN(len(want)/testBlock+1)
				require.NoError(t, s.truncate(int64(n)))
				want = want[:n:n]
			case k == 4:
				require.NoError(t, s.sync())
			default:
				off := rng.IntN(len(want))
				p := randomBytes(rng, rng.IntN(min(3*testBlock, len(want)-off))+1)
				write := s.writeAt
				if k == 9 {
					write = s.writeDurable
				}
				require.NoError(t, write(p, int64(off)))
				copy(want[off:], p)
			}
			m := s.mapping()
			if m != before {
				stale = append(stale, before)
			}
			require.Equal(t, int64(len(want)), s.size())
			require.GreaterOrEqual(t, len(m.data), len(want))
			require.True(t, bytes.Equal(want, m.data[:len(want)]), "the mapping shows what was written")
		}
		got := make([]byte, len(want))
		require.NoError(t, s.readAt(got, 0))
		require.True(t, bytes.Equal(want, got))
		require.ErrorIs(t, s.readAt(make([]byte, len(want)+1), 0), io.ErrUnexpectedEOF)
		for _, m := range stale {
			require.NoError(t, s.unmap(m))
		}
		gone, err := s.removed()
		require.NoError(t, err)
		require.False(t, gone)
	})
}

// Ensures that a truncation reaches the file when the store is closed at the latest: some systems do not shorten a mapped file.
func TestFileStorage_TruncateIsKept(t *testing.T) {
	path := filepath.Join(storageDir(t), "store")
	s := openFileFor(t, path, fileOptions{})
	require.NoError(t, s.grow(40*testBlock))
	require.NoError(t, s.writeAt(bytes.Repeat([]byte{1}, 40*testBlock), 0))
	require.NoError(t, s.truncate(20*testBlock))
	require.Equal(t, int64(20*testBlock), s.size())
	require.NoError(t, s.grow(21*testBlock))
	require.NoError(t, s.truncate(3*testBlock))
	require.NoError(t, s.close())
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, bytes.Repeat([]byte{1}, 3*testBlock), got)
}

// Ensures that our own mistakes are loud, as they would damage the store.
func TestStorage_OutsideIsPanic(t *testing.T) {
	eachStorage(t, func(t *testing.T, s storage) {
		require.NoError(t, s.grow(2*testBlock))
		block := make([]byte, testBlock)
		require.Panics(t, func() { s.writeAt(block, testBlock+1) })
		require.Panics(t, func() { s.writeDurable(block, 2*testBlock) })
		require.Panics(t, func() { s.writeAt(block, -1) })
		require.Panics(t, func() { s.grow(2 * testBlock) })
		require.Panics(t, func() { s.truncate(3 * testBlock) })
		require.Panics(t, func() { s.unmap(s.mapping()) })
		require.Equal(t, int64(2*testBlock), s.size())
	})
}

// Ensures that a second close does nothing, and that a mapping handed back after close is taken without complaint.
func TestStorage_CloseTwice(t *testing.T) {
	eachStorage(t, func(t *testing.T, s storage) {
		require.NoError(t, s.grow(testBlock))
		m := s.mapping()
		require.NoError(t, s.grow(64*testBlock))
		require.NoError(t, s.close())
		require.NoError(t, s.close())
		if m != s.mapping() {
			require.NoError(t, s.unmap(m))
		}
	})
}

// stressGrowth grows s step by step while readers check, through the mapping, blocks that are published one by one.
// Each block holds its own number.
func stressGrowth(t *testing.T, s storage, blocks int) (moved int) {
	var published atomic.Int64
	var wg sync.WaitGroup
	var held sync.RWMutex // keeps a mapping from being released while a reader uses it
	for range 3 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(rand.Uint64(), 2))
			for {
				held.RLock()
				n := published.Load()
				m := s.mapping()
				if n > 0 {
					i := rng.Int64N(n)
					block := m.data[i*testBlock : (i+1)*testBlock]
					if block[0] != byte(i) || block[testBlock-1] != byte(i>>8) {
						t.Errorf("block %d of %d reads as %d, %d", i, n, block[0], block[testBlock-1])
						n = int64(blocks)
					}
				}
				held.RUnlock()
				if n == int64(blocks) {
					return
				}
			}
		})
	}
	block := make([]byte, testBlock)
	for i := range int64(blocks) {
		if i%8 == 0 {
			before := s.mapping()
			require.NoError(t, s.grow((i+8)*testBlock))
			if before != s.mapping() {
				moved++
				held.Lock()
				require.NoError(t, s.unmap(before))
				held.Unlock()
			}
		}
		block[0], block[testBlock-1] = byte(i), byte(i>>8)
		require.NoError(t, s.writeAt(block, i*testBlock))
		published.Store(i + 1)
	}
	wg.Wait()
	return moved
}

// Ensures that readers of a growing store see every published block, and that on 64-bit Unix nothing ever moves.
func TestStorage_GrowsUnderReaders(t *testing.T) {
	eachStorage(t, func(t *testing.T, s storage) {
		moved := stressGrowth(t, s, 1600)
		switch s := s.(type) {
		case *fileStorage:
			if s.opts.reserveAtMost > 0 || !mapsPastEnd {
				require.Positive(t, moved, "this run is about remapping")
			} else if is64bit {
				require.Zero(t, moved)
			}
		case *memoryStorage:
			if s.reserve == 1 {
				require.Positive(t, moved, "this run is about copying")
			} else if is64bit {
				require.Zero(t, moved)
			}
		}
	})
}

// Ensures that a mapping that is no longer current still shows what its readers may look at.
func TestFileStorage_OldMappingStays(t *testing.T) {
	s := newStorage(t, fileOptions{reserveAtMost: 1})
	require.NoError(t, s.grow(osPageSize))
	require.NoError(t, s.writeAt([]byte("old"), 100))
	old := s.mapping()
	require.NoError(t, s.grow(50*osPageSize))
	require.NotSame(t, old, s.mapping())
	require.Equal(t, "old", string(old.data[100:103]))
	require.NoError(t, s.writeAt([]byte("new"), 100))
	require.Equal(t, "new", string(old.data[100:103]), "both map the same file")
	require.NoError(t, s.unmap(old))
	require.Panics(t, func() { s.unmap(old) })
}

// Ensures that a file opened again has what was written, and that created is true for an empty file only.
func TestFileStorage_Reopen(t *testing.T) {
	path := filepath.Join(storageDir(t), "store")
	s, created, err := openFileStorage(path, 0o640, fileOptions{})
	require.NoError(t, err)
	require.True(t, created)
	require.NoError(t, s.syncDir())
	require.NoError(t, s.close())
	if runtime.GOOS != "windows" {
		fi, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o640), fi.Mode().Perm()&0o640)
	}

	s, created, err = openFileStorage(path, 0, fileOptions{})
	require.NoError(t, err)
	require.True(t, created, "nothing was written yet")
	require.NoError(t, s.grow(3*testBlock))
	require.NoError(t, s.writeDurable([]byte("kept"), 2*testBlock))
	require.NoError(t, s.close())

	for _, readOnly := range []bool{false, true} {
		s, created, err = openFileStorage(path, 0, fileOptions{readOnly: readOnly})
		require.NoError(t, err)
		require.False(t, created)
		require.Equal(t, int64(3*testBlock), s.size())
		require.Equal(t, "kept", string(s.mapping().data[2*testBlock:2*testBlock+4]))
		require.NoError(t, s.sync())
		require.NoError(t, s.close())
	}
}

// Ensures that a read-only storage changes nothing, and says so.
func TestFileStorage_ReadOnly(t *testing.T) {
	path := filepath.Join(storageDir(t), "store")
	content := bytes.Repeat([]byte{7}, 2*testBlock)
	require.NoError(t, os.WriteFile(path, content, 0o400))
	s := openFileFor(t, path, fileOptions{readOnly: true})
	require.ErrorIs(t, s.writeAt([]byte{1}, 0), ErrDatabaseReadOnly)
	require.ErrorIs(t, s.writeDurable([]byte{1}, 0), ErrDatabaseReadOnly)
	require.ErrorIs(t, s.grow(3*testBlock), ErrDatabaseReadOnly)
	require.ErrorIs(t, s.truncate(testBlock), ErrDatabaseReadOnly)
	require.NoError(t, s.sync())
	require.Equal(t, content, s.mapping().data[:2*testBlock])

	empty := filepath.Join(storageDir(t), "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	s = openFileFor(t, empty, fileOptions{readOnly: true})
	require.Zero(t, s.size())
	require.Empty(t, s.mapping().data)
	fi, err := os.Stat(empty)
	require.NoError(t, err)
	require.Zero(t, fi.Size())
}

// Ensures that growth reserves real blocks: that is where a full disk must be met.
func TestFileStorage_GrowthHasBlocks(t *testing.T) {
	s := newStorage(t, fileOptions{})
	require.NoError(t, s.grow(1<<20))
	require.NoError(t, s.grow(5<<20))
	require.NoError(t, s.sync())
	if blocks, ok := allocatedBytes(t, s.file); ok {
		require.GreaterOrEqual(t, blocks, int64(5<<20))
	}
	require.True(t, bytes.Equal(make([]byte, 5<<20), s.mapping().data[:5<<20]))
}

// Ensures that the way to reserve blocks without help of the system fills exactly the range asked for.
func TestWriteZeros(t *testing.T) {
	f, err := os.Create(filepath.Join(storageDir(t), "file"))
	require.NoError(t, err)
	defer f.Close()
	n := int64(len(zeros))*2 + 12345
	_, err = f.Write(bytes.Repeat([]byte{1}, 100))
	require.NoError(t, err)
	require.NoError(t, writeZeros(f, 50, n))
	got, err := os.ReadFile(f.Name())
	require.NoError(t, err)
	require.Len(t, got, 50+int(n))
	require.Equal(t, bytes.Repeat([]byte{1}, 50), got[:50])
	require.True(t, bytes.Equal(make([]byte, n), got[50:]))
	if blocks, ok := allocatedBytes(t, f); ok {
		require.NoError(t, f.Sync())
		require.GreaterOrEqual(t, blocks, n-testBlock)
	}
}

// mountSmall mounts a file system of 1 MiB in memory, or skips the test.
func mountSmall(t *testing.T, options string) string {
	t.Helper()
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		t.Skip("mounting a small file system needs Linux and root")
	}
	dir := storageDir(t)
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", options, "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("cannot mount a small file system here: %v: %s", err, out)
	}
	t.Cleanup(func() {
		out, err := exec.Command("umount", dir).CombinedOutput()
		require.NoError(t, err, string(out))
	})
	return dir
}

// Ensures that a full disk is met by grow, which then leaves file and store as they were, and that the store goes on.
func TestFileStorage_FullDisk(t *testing.T) {
	dir := mountSmall(t, "size=1m")
	for _, reserve := range []int64{0, 1} {
		path := filepath.Join(dir, "store")
		s, _, err := openFileStorage(path, 0o600, fileOptions{reserveAtMost: reserve})
		require.NoError(t, err)
		require.NoError(t, s.grow(512<<10))
		pattern := bytes.Repeat([]byte("data"), 128<<10)
		require.NoError(t, s.writeAt(pattern, 0))

		err = s.grow(2 << 20)
		require.ErrorIs(t, err, syscall.ENOSPC)
		require.ErrorContains(t, err, "grow "+path)
		require.Equal(t, int64(512<<10), s.size())
		fi, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, int64(512<<10), fi.Size())
		require.True(t, bytes.Equal(pattern, s.mapping().data[:512<<10]))

		require.NoError(t, s.grow(600<<10), "what still fits can be had")
		require.NoError(t, s.writeDurable(pattern[:64<<10], 520<<10))

		// Without help of the system the full disk shows while zeros are written.
		require.ErrorIs(t, writeZeros(s.file, 600<<10, 1<<20), syscall.ENOSPC)
		require.NoError(t, s.close())
		require.NoError(t, os.Remove(path))
	}
}

// Ensures that a read-only file system is named as the reason, with the way out, and that the way out works.
func TestFileStorage_ReadOnlyFileSystem(t *testing.T) {
	dir := mountSmall(t, "size=1m")
	path := filepath.Join(dir, "store")
	require.NoError(t, os.WriteFile(path, make([]byte, testBlock), 0o600))
	out, err := exec.Command("mount", "-o", "remount,ro", dir).CombinedOutput()
	require.NoError(t, err, string(out))

	_, _, err = openFileStorage(path, 0o600, fileOptions{})
	require.ErrorIs(t, err, syscall.EROFS)
	require.ErrorContains(t, err, path)
	require.ErrorContains(t, err, "Options.ReadOnly")

	s := openFileFor(t, path, fileOptions{readOnly: true})
	require.NoError(t, s.sync())
	require.NoError(t, s.close())
}

// Ensures that what is no regular file is refused at once, by name and kind.
func TestFileStorage_NotRegular(t *testing.T) {
	dir := storageDir(t)
	paths := map[string]string{"a directory": dir}
	if runtime.GOOS != "windows" {
		fifo := filepath.Join(dir, "fifo")
		if out, err := exec.Command("mkfifo", fifo).CombinedOutput(); err != nil {
			t.Logf("no named pipe: %v: %s", err, out)
		} else {
			paths["a named pipe"] = fifo
			link := filepath.Join(dir, "link")
			require.NoError(t, os.Symlink(fifo, link))
			paths["a named pipe "] = link
		}
		paths["a device"] = os.DevNull
		socket := filepath.Join(dir, "socket")
		l, err := net.Listen("unix", socket)
		require.NoError(t, err)
		defer l.Close()
		paths["a socket"] = socket
	}
	for what, path := range paths {
		for _, readOnly := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%v", what, readOnly), func(t *testing.T) {
				done := make(chan error, 1)
				go func() {
					_, _, err := openFileStorage(path, 0o600, fileOptions{readOnly: readOnly})
					done <- err
				}()
				select {
				case err := <-done:
					require.ErrorIs(t, err, errNotRegular)
					require.ErrorContains(t, err, path)
					require.ErrorContains(t, err, strings.TrimSpace(what))
				case <-time.After(10 * time.Second):
					t.Fatal("open hangs")
				}
			})
		}
	}
}

// Ensures that what was opened is looked at, not only what the path led to before.
func TestFileStorage_NotRegularOnceOpen(t *testing.T) {
	path := filepath.Join(storageDir(t), "store")
	_, _, err := openFileStorage(path, 0o600, fileOptions{
		openFile: func(string, int, os.FileMode) (*os.File, error) { return os.OpenFile(os.DevNull, os.O_RDWR, 0) },
	})
	require.ErrorIs(t, err, errNotRegular)
	require.ErrorContains(t, err, path)
}

// Ensures that the usual failures of open are what the os package's predicates expect, and name the path.
func TestFileStorage_OpenErrors(t *testing.T) {
	dir := storageDir(t)
	missing := filepath.Join(dir, "missing")
	_, _, err := openFileStorage(missing, 0o600, fileOptions{readOnly: true})
	require.True(t, os.IsNotExist(err), "%v", err)
	require.ErrorContains(t, err, missing)
	require.NoFileExists(t, missing)

	_, _, err = openFileStorage(filepath.Join(missing, "store"), 0o600, fileOptions{})
	require.True(t, os.IsNotExist(err), "%v", err)

	denied := errors.New("denied by the caller")
	_, _, err = openFileStorage(missing, 0o600, fileOptions{
		openFile: func(string, int, os.FileMode) (*os.File, error) { return nil, denied },
	})
	require.ErrorIs(t, err, denied)

	if runtime.GOOS != "windows" && os.Getuid() != 0 {
		secret := filepath.Join(dir, "secret")
		require.NoError(t, os.WriteFile(secret, nil, 0o000))
		_, _, err = openFileStorage(secret, 0o600, fileOptions{})
		require.True(t, os.IsPermission(err), "%v", err)
	}
}

// Ensures that a custom OpenFile is used for every descriptor, and that one which drops flags costs speed, not durability.
func TestFileStorage_CustomOpenFile(t *testing.T) {
	path := filepath.Join(storageDir(t), "store")
	var flags []int
	honest := func(name string, flag int, mode os.FileMode) (*os.File, error) {
		require.Equal(t, path, name)
		flags = append(flags, flag)
		return os.OpenFile(name, flag, mode)
	}
	s := openFileFor(t, path, fileOptions{openFile: honest})
	require.NoError(t, s.grow(testBlock))
	require.Equal(t, os.O_RDWR|os.O_CREATE, flags[0])
	if synchronousFlag != 0 && runtime.GOOS != "windows" {
		require.NotNil(t, s.synchronous)
		require.Equal(t, os.O_RDWR|synchronousFlag, flags[1])
	}
	require.NoError(t, s.writeDurable([]byte("honest"), 0))
	require.NoError(t, s.close())

	var log bytes.Buffer
	forgetful := func(name string, flag int, mode os.FileMode) (*os.File, error) {
		return os.OpenFile(name, flag&(os.O_RDWR|os.O_CREATE), mode)
	}
	s = openFileFor(t, path, fileOptions{openFile: forgetful, logger: slog.New(slog.NewTextHandler(&log, nil))})
	require.Nil(t, s.synchronous)
	if synchronousFlag != 0 && runtime.GOOS != "windows" {
		require.Contains(t, log.String(), "synchronous")
	}
	require.NoError(t, s.writeDurable([]byte("forget"), 0))
	require.Equal(t, "forget", string(s.mapping().data[:6]))
	require.NoError(t, s.close())

	// Another file under the same name must not become the second descriptor.
	calls := 0
	switching := func(name string, flag int, mode os.FileMode) (*os.File, error) {
		if calls++; calls > 1 {
			name += ".other"
		}
		return os.OpenFile(name, flag|os.O_CREATE, mode)
	}
	s = openFileFor(t, path, fileOptions{openFile: switching})
	require.Nil(t, s.synchronous)
	require.NoError(t, s.writeDurable([]byte("switch"), 0))
	require.Equal(t, "switch", string(s.mapping().data[:6]))
}

// Ensures that a file put in place of the one that was waited for is the one that is opened.
func TestFileStorage_ReplacedWhileWaiting(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows does not replace a file that is open")
	}
	dir := storageDir(t)
	path := filepath.Join(dir, "store")
	first, _, err := openFileStorage(path, 0o600, fileOptions{})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path+".new", make([]byte, 3*testBlock), 0o600))
	go func() {
		time.Sleep(50 * time.Millisecond)
		os.Rename(path+".new", path)
		first.close()
	}()
	second := openFileFor(t, path, fileOptions{timeout: 10 * time.Second})
	require.Equal(t, int64(3*testBlock), second.size())
}

// Ensures that a file that lost its name is known to have, and one that was only renamed is not.
func TestFileStorage_Removed(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows keeps the name of an open file")
	}
	path := filepath.Join(storageDir(t), "store")
	s := openFileFor(t, path, fileOptions{})
	removed := func() bool {
		gone, err := s.removed()
		require.NoError(t, err)
		return gone
	}
	require.False(t, removed())
	require.NoError(t, os.Rename(path, path+".moved"))
	require.False(t, removed())
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.NoError(t, os.Rename(path, path+".moved"))
	require.True(t, removed(), "replaced by a rename")
}

// Ensures that a store is not opened for writing where the mapping shows something else than what was written, that the error names the
// file system, and that the owner page has its old bytes then.
func TestFileStorage_Coherence(t *testing.T) {
	path := filepath.Join(storageDir(t), "store")
	db, err := Open(path, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, db.Close())
	want, err := os.ReadFile(path)
	require.NoError(t, err)

	s := openFileFor(t, path, fileOptions{})
	real := s.mapping()
	s.current.Store(&mapping{data: bytes.Clone(want)})
	_, err = openFile(s, false, &Options{})
	require.ErrorIs(t, err, errIncoherent)
	require.ErrorContains(t, err, "file system: "+fileSystemName(s.file))
	s.current.Store(real)
	require.Equal(t, want, real.data[:len(want)])

	db, err = openFile(s, false, &Options{})
	require.NoError(t, err)
	require.NoError(t, db.Close())
}

// Ensures that a direct read, where there is one, gives what is on the medium, whatever the buffer's alignment.
func TestFileStorage_ReadMedium(t *testing.T) {
	s := newStorage(t, fileOptions{})
	require.NoError(t, s.grow(40*testBlock))
	want := randomBytes(rand.New(rand.NewPCG(2, 2)), 40*testBlock)
	require.NoError(t, s.writeAt(want, 0))
	require.NoError(t, s.sync())

	buf := make([]byte, 40*testBlock+1)
	got := buf[1:] // never aligned
	ok, err := s.readMedium(got, 0)
	require.NoError(t, err)
	if !ok {
		t.Skipf("no direct reads on this file system (%s)", fileSystemName(s.file))
	}
	require.True(t, bytes.Equal(want, got))
	require.NoError(t, s.writeDurable([]byte("synchronous"), 8*testBlock))
	ok, err = s.readMedium(got[:testBlock], 8*testBlock)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, "synchronous", string(got[:11]))
	_, err = s.readMedium(got[:testBlock], 40*testBlock)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

// Ensures that Options.Mlock locks the file's pages, those of a growth too, and that a limit is an error that leaves the store
// as it was.
func TestFileStorage_Mlock(t *testing.T) {
	path := filepath.Join(storageDir(t), "store")
	s, _, err := openFileStorage(path, 0o600, fileOptions{mlock: true})
	if runtime.GOOS == "windows" {
		// Nothing is there to be locked in an empty file; growth tells.
		require.NoError(t, err)
		require.NoError(t, s.keepInMemory())
		require.ErrorIs(t, s.grow(testBlock), errors.ErrUnsupported)
		require.Zero(t, s.size())
		require.NoError(t, s.close())
		return
	}
	require.NoError(t, err)
	defer s.close()
	require.NoError(t, s.keepInMemory())
	before, known := lockedBytes()
	if err := s.grow(8 * osPageSize); err != nil {
		t.Skipf("this process may not lock memory: %v", err)
	}
	require.NoError(t, s.grow(16*osPageSize))
	if after, _ := lockedBytes(); known {
		require.Equal(t, before+16*osPageSize, after)
	}
	require.NoError(t, s.close())
	if after, _ := lockedBytes(); known {
		require.Equal(t, before, after)
	}
}

// Ensures that nothing of a file that is opened for writing is locked in memory before the cache may have to be dropped: pages that are locked cannot be. (They were, from the
// open on, so that a store with Options.Mlock believed after a failure what the system had in memory.)
func TestFileStorage_MlockAfterDropCache(t *testing.T) {
	path := filepath.Join(storageDir(t), "store")
	require.NoError(t, os.WriteFile(path, make([]byte, 16*osPageSize), 0o600))
	before, known := lockedBytes()
	if !known {
		t.Skip("the system does not tell what is locked")
	}
	s, _, err := openFileStorage(path, 0o600, fileOptions{mlock: true})
	require.NoError(t, err)
	defer s.close()
	require.NoError(t, s.dropCache())
	after, _ := lockedBytes()
	require.Equal(t, before, after)
	if err := s.keepInMemory(); err != nil {
		t.Skipf("this process may not lock memory: %v", err)
	}
	after, _ = lockedBytes()
	require.Equal(t, before+16*osPageSize, after)
}

// lockedBytes is how much memory this process has locked, if the system tells.
func lockedBytes() (int64, bool) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(status)) {
		var kb int64
		if n, _ := fmt.Sscanf(line, "VmLck: %d kB", &kb); n == 1 {
			return kb << 10, true
		}
	}
	return 0, false
}

// Ensures that a truncated file is an error, not the end of the program.
func TestFileStorage_TruncatedByOthers(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows does not shorten a mapped file")
	}
	s := newStorage(t, fileOptions{})
	require.NoError(t, s.grow(8*osPageSize))
	require.NoError(t, os.Truncate(s.path, osPageSize))
	needFaultAddress(t, s.mapping(), osPageSize)
	var fault *FaultError
	_, err := guardedRead(s.mapping(), int64(4*osPageSize))
	require.ErrorAs(t, err, &fault)
	require.EqualValues(t, 4*osPageSize, fault.Offset)
	require.ErrorIs(t, s.readAt(make([]byte, 10), 4*osPageSize), io.ErrUnexpectedEOF)
}

// Ensures that changes of a private storage never reach the file, wherever they are: in the file's part, across its end, behind it.
func TestPrivateStorage_FileUntouched(t *testing.T) {
	for _, size := range []int{0, 1, testBlock, 3*testBlock + 123, 64 << 10, 64<<10 + testBlock, 200<<10 + 77} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(3, uint64(size)))
			content := randomBytes(rng, size)
			s, path := newPrivate(t, content, 4<<20)
			require.Equal(t, int64(size), s.size())
			require.True(t, bytes.Equal(content, s.mapping().data[:size]))

			want := append(bytes.Clone(content), make([]byte, 1<<20)...)
			require.NoError(t, s.grow(int64(len(want))))
			for range 50 {
				off := rng.IntN(len(want) - 5000)
				p := randomBytes(rng, 1+rng.IntN(5000))
				require.NoError(t, s.writeAt(p, int64(off)))
				copy(want[off:], p)
			}
			require.NoError(t, s.sync())
			require.True(t, bytes.Equal(want, s.mapping().data[:len(want)]))
			got := make([]byte, len(want))
			require.NoError(t, s.readAt(got, 0))
			require.True(t, bytes.Equal(want, got))
			ok, err := s.readMedium(got[:testBlock], 0)
			require.NoError(t, err)
			require.False(t, ok, "the medium has none of it")

			onDisk, err := os.ReadFile(path)
			require.NoError(t, err)
			require.True(t, bytes.Equal(content, onDisk))
		})
	}
}

// Ensures that the limit bounds changed pages and growth, that rewriting a page costs nothing more, and that the error names
// the limit.
func TestPrivateStorage_Limit(t *testing.T) {
	const pages = 8
	limit := pages * osPageSize
	s, _ := newPrivate(t, make([]byte, 32*osPageSize), limit)
	for range 3 {
		for i := range int64(pages) {
			require.NoError(t, s.writeAt([]byte{byte(i)}, 2*i*osPageSize))
		}
	}
	err := s.writeAt([]byte{1}, 31*osPageSize)
	require.ErrorContains(t, err, fmt.Sprint(limit))
	require.Zero(t, s.mapping().data[31*osPageSize])
	require.NoError(t, s.writeAt([]byte{9}, 4*osPageSize), "a page that is already counted")

	require.NoError(t, s.grow((32+pages)*osPageSize))
	err = s.grow((32+pages)*osPageSize + 1)
	require.ErrorContains(t, err, fmt.Sprint(limit))
	require.Equal(t, (32+pages)*osPageSize, s.size())
}

// Ensures that a fault while a private storage reads or changes a page of the file is an error.
func TestPrivateStorage_TruncatedByOthers(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows does not shorten a mapped file")
	}
	s, path := newPrivate(t, make([]byte, 8*osPageSize), 1<<20)
	require.NoError(t, s.writeAt([]byte("private"), 0))
	require.NoError(t, os.Truncate(path, osPageSize))
	needFaultAddress(t, s.mapping(), osPageSize)
	var fault *FaultError
	require.ErrorAs(t, s.writeAt([]byte{1}, 4*osPageSize), &fault)
	require.Equal(t, 4*osPageSize, fault.Offset)
	require.ErrorAs(t, s.readAt(make([]byte, 1), 5*osPageSize), &fault)
	require.False(t, debug.SetPanicOnFault(false))
}

// Ensures that a writer cannot open a file that a private storage shows, and that other readers can.
func TestPrivateStorage_HoldsLock(t *testing.T) {
	s, path := newPrivate(t, make([]byte, testBlock), 1<<20)
	_, _, err := openFileStorage(path, 0, fileOptions{})
	require.ErrorIs(t, err, ErrLocked)
	other, _, err := openFileStorage(path, 0, fileOptions{readOnly: true})
	require.NoError(t, err)
	require.NoError(t, other.close())
	require.NoError(t, s.close())
	w, _, err := openFileStorage(path, 0, fileOptions{})
	require.NoError(t, err)
	require.NoError(t, w.close())
}

// Ensures that closing the file releases the private mapping too: an open that fails in between knows of the file only.
func TestPrivateStorage_ClosedWithFile(t *testing.T) {
	s, path := newPrivate(t, make([]byte, 70<<10), 1<<20)
	require.NoError(t, s.base.close())
	require.NoError(t, s.close())
	if maps, err := os.ReadFile("/proc/self/maps"); err == nil {
		require.NotContains(t, string(maps), path)
	}
	// Windows does not empty a file that is still mapped.
	require.NoError(t, os.WriteFile(path, nil, 0o600))
}

// BenchmarkFileStorage measures what the storage adds to the system's calls.
func BenchmarkFileStorage(b *testing.B) {
	block := make([]byte, testBlock)
	b.Run("WriteAt", func(b *testing.B) {
		s := newStorage(b, fileOptions{})
		require.NoError(b, s.grow(1<<20))
		for i := int64(0); b.Loop(); i++ {
			s.writeAt(block, i%256*testBlock)
		}
	})
	b.Run("WriteDurable", func(b *testing.B) {
		s := newStorage(b, fileOptions{})
		require.NoError(b, s.grow(1<<20))
		require.NoError(b, writeZeros(s.file, 0, 1<<20))
		require.NoError(b, s.sync())
		for i := int64(0); b.Loop(); i++ {
			if err := s.writeDurable(block, i%256*testBlock); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Grow", func(b *testing.B) {
		s := newStorage(b, fileOptions{})
		for b.Loop() {
			if s.size() >= 256<<20 {
				b.StopTimer()
				require.NoError(b, s.truncate(0))
				b.StartTimer()
			}
			if err := s.grow(s.size() + 64<<10); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// Ensures that durable writes at the same time never share a descriptor: the system would tell one of them of the other's failure.
func TestFileStorage_DurableTogether(t *testing.T) {
	s := newStorage(t, fileOptions{})
	require.NoError(t, s.grow(1<<20))
	if len(s.synchronous) == 0 {
		t.Skip("no synchronous descriptors here")
	}
	taken := map[*durableFile]bool{}
	for range s.synchronous {
		d := s.durableFile()
		require.False(t, taken[d])
		require.True(t, isSynchronous(d.f))
		taken[d] = true
	}
	require.Len(t, taken, durableFiles)
	written := make(chan error)
	go func() { written <- s.writeDurable(make([]byte, 4096), 0) }()
	select {
	case <-written:
		t.Fatal("it used a descriptor that others use")
	case <-time.After(20 * time.Millisecond):
	}
	for d := range taken {
		d.mu.Unlock()
	}
	require.NoError(t, <-written)
}

// Ensures that a descriptor which cannot be opened when it is needed costs time and not the write.
func TestFileStorage_DurableOneOnly(t *testing.T) {
	s := newStorage(t, fileOptions{})
	require.NoError(t, s.grow(1<<20))
	if len(s.synchronous) == 0 {
		t.Skip("no synchronous descriptors here")
	}
	gone := errors.New("no more")
	s.opts.openFile = func(string, int, os.FileMode) (*os.File, error) { return nil, gone }
	d := s.durableFile()
	written := make(chan error)
	go func() { written <- s.writeDurable([]byte("late"), 0) }()
	select {
	case <-written:
		t.Fatal("through which descriptor?")
	case <-time.After(20 * time.Millisecond):
	}
	d.mu.Unlock()
	require.NoError(t, <-written)
	require.Equal(t, "late", string(s.mapping().data[:4]))
}
