package measure

import (
	"bytes"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Memory samples the memory of this process in the background and keeps the peaks. The anonymous part is what a
// program needs beyond the pages of files that the kernel can drop at will. Sampling allocates nothing.
type Memory struct {
	fd        int
	baseline  int64
	peakAnon  atomic.Int64
	peakTotal atomic.Int64
	stop      chan struct{}
	done      sync.WaitGroup
}

// sampleEvery is short enough to see a commit's buffers and long enough to cost under half a percent.
const sampleEvery = 10 * time.Millisecond

// WatchMemory begins to sample, with what is in use now as the baseline.
func WatchMemory() *Memory {
	debug.FreeOSMemory()
	m := &Memory{stop: make(chan struct{})}
	fd, err := unix.Open("/proc/self/status", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	m.fd = fd
	if err != nil {
		m.fd = -1
		return m
	}
	buf := make([]byte, 8192)
	m.baseline, _ = m.sample(buf)
	m.done.Go(func() {
		tick := time.NewTicker(sampleEvery)
		defer tick.Stop()
		for {
			m.sample(buf)
			select {
			case <-m.stop:
				m.sample(buf)
				return
			case <-tick.C:
			}
		}
	})
	return m
}

func (m *Memory) sample(buf []byte) (anon, total int64) {
	n, err := unix.Pread(m.fd, buf, 0)
	if err != nil {
		return 0, 0
	}
	anon, total = field(buf[:n], "RssAnon:"), field(buf[:n], "VmRSS:")
	m.peakAnon.Store(max(m.peakAnon.Load(), anon))
	m.peakTotal.Store(max(m.peakTotal.Load(), total))
	return anon, total
}

// Stop ends the sampling and returns the peaks in bytes, the anonymous one above the baseline.
func (m *Memory) Stop() (anon, total int64) {
	if m.fd < 0 {
		return -1, -1
	}
	close(m.stop)
	m.done.Wait()
	unix.Close(m.fd)
	return max(0, m.peakAnon.Load()-m.baseline), m.peakTotal.Load()
}

// field returns a line of /proc/self/status in bytes.
func field(status []byte, name string) int64 {
	at := bytes.Index(status, []byte(name))
	if at < 0 {
		return 0
	}
	rest := bytes.TrimLeft(status[at+len(name):], " \t")
	end := bytes.IndexByte(rest, ' ')
	if end < 0 {
		return 0
	}
	kib, err := strconv.ParseInt(string(rest[:end]), 10, 64)
	if err != nil {
		return 0
	}
	return kib << 10
}
