package alder

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// With this in the environment every append of the tests' stores is attended, whether anybody looks or not: so all tests of commits, faults
// and kills can be run over the ring.
const attendEnv = "ALDER_TEST_ATTEND"

func init() {
	if os.Getenv(attendEnv) != "" {
		crowdedFrom = 0
	}
}

func nothing() {}

// needRing makes a ring that nobody watches.
func needRing(t testing.TB) *ring {
	t.Helper()
	r, err := newRing(newAttendance())
	if err != nil {
		t.Skipf("no io_uring here: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, r.close()) })
	return r
}

// lookOn looks until stop is called, which returns how often somebody has found a write done and waited.
func lookOn(a *attendance) (stop func() int) {
	var ended atomic.Bool
	var all sync.WaitGroup
	var seen atomic.Int64
	for range 4 {
		all.Go(func() {
			var o onlooker
			for !ended.Load() {
				found := a.look(&o)
				if found == foundDone {
					seen.Add(1)
				}
				a.giveWay(found)
				runtime.Gosched()
			}
		})
	}
	return func() int {
		ended.Store(true)
		all.Wait()
		return int(seen.Load())
	}
}

// Ensures that writes end, each once, when nothing but readers' looks at the ring can end them, and that they write what they are to.
func TestRing_Noticed(t *testing.T) {
	r := needRing(t)
	f, err := os.OpenFile(filepath.Join(storageDir(t), "file"), os.O_RDWR|os.O_CREATE|unix.O_DSYNC, 0o600)
	require.NoError(t, err)
	defer f.Close()
	stop := lookOn(r.a)
	var want []byte
	for i := range 200 {
		p := bytes.Repeat([]byte{byte(i)}, 1+i*37)
		n, err := r.write(f, p, int64(len(want)), nothing)
		require.NoError(t, err)
		require.Equal(t, len(p), n)
		want = append(want, p...)
	}
	found := stop()
	require.Positive(t, found)
	require.LessOrEqual(t, found, 200-200/attendTurns, "in some turns nobody waits")
	got, err := os.ReadFile(f.Name())
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got))
}

// Ensures that writes end when nobody looks but the poller.
func TestRing_Watched(t *testing.T) {
	r := needRing(t)
	require.NoError(t, r.watch())
	f, err := os.OpenFile(filepath.Join(storageDir(t), "file"), os.O_RDWR|os.O_CREATE|unix.O_DSYNC, 0o600)
	require.NoError(t, err)
	defer f.Close()
	for i := range 200 {
		n, err := r.write(f, bytes.Repeat([]byte{byte(i)}, 4096), int64(i)*4096, nothing)
		require.NoError(t, err)
		require.Equal(t, 4096, n)
	}
}

// Ensures the same while every processor is kept busy by somebody who never looks: then it takes until the runtime asks its poller on the side.
func TestRing_WatchedBesideOthers(t *testing.T) {
	r := needRing(t)
	require.NoError(t, r.watch())
	f, err := os.OpenFile(filepath.Join(storageDir(t), "file"), os.O_RDWR|os.O_CREATE|unix.O_DSYNC, 0o600)
	require.NoError(t, err)
	defer f.Close()
	var ended atomic.Bool
	var all sync.WaitGroup
	for range 2 * runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for !ended.Load() {
			}
		})
	}
	defer all.Wait()
	defer ended.Store(true)
	for i := range 3 {
		n, err := r.write(f, bytes.Repeat([]byte{byte(i)}, 4096), int64(i)*4096, nothing)
		require.NoError(t, err)
		require.Equal(t, 4096, n)
	}
}

// Ensures that what the system says of a write is what its caller gets: how much was written, why it failed, and that the ring is good for more
// afterwards.
func TestRing_Results(t *testing.T) {
	r := needRing(t)
	require.NoError(t, r.watch())
	dir := storageDir(t)

	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	require.NoError(t, err)
	defer full.Close()
	n, err := r.write(full, make([]byte, 4096), 0, nothing)
	require.ErrorIs(t, err, unix.ENOSPC)
	require.Zero(t, n)

	path := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	readOnly, err := os.Open(path)
	require.NoError(t, err)
	defer readOnly.Close()
	_, err = r.write(readOnly, make([]byte, 4096), 0, nothing)
	require.ErrorIs(t, err, unix.EBADF)

	// A pipe takes what it has room for.
	from, to, err := os.Pipe()
	require.NoError(t, err)
	defer from.Close()
	defer to.Close()
	n, err = r.write(to, make([]byte, 1<<20), 0, nothing)
	require.NoError(t, err)
	require.Positive(t, n)
	require.Less(t, n, 1<<20)

	f, err := os.OpenFile(path, os.O_RDWR|unix.O_DSYNC, 0)
	require.NoError(t, err)
	defer f.Close()
	n, err = r.write(f, []byte("good for more"), 0, nothing)
	require.NoError(t, err)
	require.Equal(t, 13, n)
}

// Ensures that a write that the system does not take leaves nothing under way: it is an error that lets the caller write in another way, and who looks sees
// nothing.
func TestRing_NotTaken(t *testing.T) {
	r := needRing(t)
	file := r.file
	defer func() { r.file = file }()
	var err error
	r.file, err = os.Open(os.DevNull) // where nothing can be submitted
	require.NoError(t, err)
	defer r.file.Close()
	for range 3 {
		_, err = r.write(r.file, make([]byte, 4096), 0, nothing)
		require.ErrorIs(t, err, errNotTaken)
		require.Equal(t, foundNothing, r.a.look(&onlooker{state: r.a.state.Load()}))
	}
	r.file = file
	require.NoError(t, r.watch())
	f, err := os.OpenFile(filepath.Join(storageDir(t), "file"), os.O_RDWR|os.O_CREATE, 0o600)
	require.NoError(t, err)
	defer f.Close()
	n, err := r.write(f, []byte("taken"), 0, nothing)
	require.NoError(t, err)
	require.Equal(t, 5, n)
}

// Ensures that a ring leaves neither descriptors, nor mappings, nor goroutines behind, and that many can be open.
func TestRing_Close(t *testing.T) {
	needRing(t)
	rings := func() (n int) {
		all, err := os.ReadDir("/proc/self/fd")
		require.NoError(t, err)
		for _, e := range all {
			if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.Contains(to, "[io_uring]") {
				n++
			}
		}
		maps, err := os.ReadFile("/proc/self/maps")
		require.NoError(t, err)
		return n + bytes.Count(maps, []byte("[io_uring]"))
	}
	before, goroutines := rings(), runtime.NumGoroutine()
	var all []*ring
	for range 64 {
		r, err := newRing(newAttendance())
		require.NoError(t, err)
		require.NoError(t, r.watch())
		all = append(all, r)
	}
	require.Equal(t, before+3*64, rings())
	flags, err := unix.FcntlInt(all[0].file.Fd(), unix.F_GETFD, 0)
	require.NoError(t, err)
	require.NotZero(t, flags&unix.FD_CLOEXEC, "a program that is started must not inherit a ring")
	for _, r := range all {
		require.NoError(t, r.close())
	}
	require.Equal(t, before, rings())
	for begun := time.Now(); runtime.NumGoroutine() > goroutines && time.Since(begun) < 5*time.Second; {
		time.Sleep(time.Millisecond)
	}
	require.LessOrEqual(t, runtime.NumGoroutine(), goroutines)
}

// helpers returns the threads that the system has made to write for a thread.
func helpers(t testing.TB, tid int) (tids []int) {
	t.Helper()
	all, err := os.ReadDir("/proc/self/task")
	require.NoError(t, err)
	for _, e := range all {
		name, err := os.ReadFile("/proc/self/task/" + e.Name() + "/comm")
		if err != nil || string(bytes.TrimSpace(name)) != fmt.Sprintf("iou-wrk-%d", tid) {
			continue
		}
		var id int
		_, err = fmt.Sscan(e.Name(), &id)
		require.NoError(t, err)
		tids = append(tids, id)
	}
	return tids
}

// Ensures that the helper of a thread asks for short turns, and the thread itself only as long as that is made.
func TestRing_Turns(t *testing.T) {
	r := needRing(t)
	require.NoError(t, r.watch())
	f, err := os.OpenFile(filepath.Join(storageDir(t), "file"), os.O_RDWR|os.O_CREATE, 0o600)
	require.NoError(t, err)
	defer f.Close()
	// Many threads at a time, so that there is one among them that has no helper yet.
	var mu sync.Mutex
	var all sync.WaitGroup
	hold := make(chan struct{})
	tried, result := 0, ""
	for range 64 {
		all.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			mu.Lock()
			if result == "" && len(helpers(t, unix.Gettid())) == 0 {
				tried++
				result = turns(t, r, f)
			}
			mu.Unlock()
			<-hold
		})
	}
	for begun := time.Now(); time.Since(begun) < 5*time.Second; time.Sleep(time.Millisecond) {
		mu.Lock()
		done := result != ""
		mu.Unlock()
		if done {
			break
		}
	}
	close(hold)
	all.Wait()
	require.Equal(t, 1, tried)
	if result != "good" {
		t.Skip(result)
	}
}

// turns is called by a thread that has no helper.
func turns(t testing.TB, r *ring, f *os.File) string {
	before, err := unix.SchedGetAttr(0, 0)
	if err != nil || before.Runtime == 0 {
		return "threads have no turns of their own on this kernel (before 6.12)"
	}
	_, err = r.write(f, []byte("turn"), 0, nothing)
	assert.NoError(t, err)
	after, err := unix.SchedGetAttr(0, 0)
	assert.NoError(t, err)
	assert.Equal(t, before, after)
	made := helpers(t, unix.Gettid())
	if len(made) == 0 {
		return "the helpers of this kernel have other names"
	}
	for _, tid := range made {
		of, err := unix.SchedGetAttr(tid, 0)
		assert.NoError(t, err)
		assert.EqualValues(t, promptTurn, of.Runtime)
	}
	return "good"
}

// Ensures that a storage writes in the ordinary way where there is no ring, and goes on so.
func TestFileStorage_AttendedWithoutRing(t *testing.T) {
	s := newStorage(t, fileOptions{})
	require.NoError(t, s.grow(16*testBlock))
	s.notRing = true
	require.NoError(t, s.writeAttended([]byte("ordinary"), testBlock, nothing))
	require.Nil(t, s.ring)
	require.Equal(t, "ordinary", string(s.mapping().data[testBlock:testBlock+8]))
}

// Ensures that a storage whose ring stops working goes on without it.
func TestFileStorage_AttendedRingFails(t *testing.T) {
	s := newStorage(t, fileOptions{})
	require.NoError(t, s.grow(16*testBlock))
	if !s.openRing() {
		t.Skip("no io_uring here")
	}
	require.NoError(t, s.writeAttended([]byte("by the ring"), 0, nothing))
	file := s.ring.file
	var err error
	s.ring.file, err = os.Open(os.DevNull)
	require.NoError(t, err)
	require.NoError(t, s.writeAttended([]byte("ordinary"), testBlock, nothing))
	require.NoError(t, errors.Join(s.ring.file.Close()))
	s.ring.file = file
	require.False(t, s.openRing())
	require.NoError(t, s.writeAttended([]byte("as well"), 2*testBlock, nothing))
	data := s.mapping().data
	require.Equal(t, "by the ring", string(data[:11]))
	require.Equal(t, "ordinary", string(data[testBlock:testBlock+8]))
	require.Equal(t, "as well", string(data[2*testBlock:2*testBlock+7]))
}
