package measure

import (
	"encoding/binary"
	"io/fs"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

func adviseRandom(f *os.File) {
	// Advice only: without it the reads are merely slower to stay apart.
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM)
}

// Evict drops the files under dir from the page cache, as far as they are clean.
func Evict(dir string) error {
	return Files(dir, func(path string, _ fs.FileInfo) error {
		file, err := os.Open(path)
		if err != nil {
			return ignoreGone(err)
		}
		defer file.Close()
		return unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED)
	})
}

// Bits of an entry of /proc/kpageflags.
const (
	flagCompoundHead = 1 << 15
	flagCompoundTail = 1 << 16
)

// folioSamples is how many pages of a file are looked at.
const folioSamples = 512

// Folios looks at a sample of the pages of the files under dir. Only root is shown page frames; others learn
// residency alone.
func Folios(dir string) (FolioState, error) {
	look := folioLook{}
	look.flags, _ = os.Open("/proc/kpageflags") // not being root is no error
	look.pagemap, _ = os.Open("/proc/self/pagemap")
	defer func() {
		for _, f := range []*os.File{look.flags, look.pagemap} {
			if f != nil {
				f.Close()
			}
		}
	}()
	err := Files(dir, func(path string, info fs.FileInfo) error {
		file, err := os.Open(path)
		if err != nil {
			return ignoreGone(err)
		}
		defer file.Close()
		return extents(file, info.Size(), func(start, end int64) error { return look.at(file, start, end) })
	})
	state := FolioState{Pages: int(look.looked)}
	if look.pages > 0 {
		state.Resident = float64(look.resident) / float64(look.pages)
	}
	if look.looked > 0 {
		state.Large = float64(look.large) / float64(look.looked)
	}
	return state, err
}

// folioLook counts while Folios looks.
type folioLook struct {
	flags, pagemap                 *os.File
	pages, resident, looked, large int64
}

func (l *folioLook) at(file *os.File, start, end int64) error {
	start &^= 4095
	mapped, err := unix.Mmap(int(file.Fd()), start, int(end-start), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	defer unix.Munmap(mapped)
	in := make([]byte, (len(mapped)+4095)/4096)
	if err := mincore(mapped, in); err != nil {
		return err
	}
	l.pages += int64(len(in))
	for _, b := range in {
		l.resident += int64(b & 1)
	}
	if l.flags == nil || l.pagemap == nil {
		return nil
	}
	for i := 0; i < len(in); i += max(1, len(in)/folioSamples) {
		if in[i]&1 == 0 {
			continue
		}
		runtime.KeepAlive(mapped[i*4096]) // fault it in, or there is no entry to read
		bits, ok := pageFlags(l.pagemap, l.flags, &mapped[i*4096])
		if !ok {
			continue
		}
		l.looked++
		if bits&(flagCompoundHead|flagCompoundTail) != 0 {
			l.large++
		}
	}
	return nil
}

func pageFlags(pagemap, flags *os.File, at *byte) (bits uint64, ok bool) {
	var entry [8]byte
	if _, err := pagemap.ReadAt(entry[:], int64(address(at)/4096*8)); err != nil {
		return 0, false
	}
	frame := binary.LittleEndian.Uint64(entry[:]) & (1<<55 - 1)
	if frame == 0 {
		return 0, false
	}
	if _, err := flags.ReadAt(entry[:], int64(frame*8)); err != nil {
		return 0, false
	}
	return binary.LittleEndian.Uint64(entry[:]), true
}
