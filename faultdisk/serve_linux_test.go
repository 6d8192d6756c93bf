package faultdisk

import (
	"context"
	"fmt"
	"io"
	"net/rpc"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// The disk as a file: a directory in which disk-N is generation N of the image. It is served by a process of its own: a process that uses
// the mapping of a file on this disk can wait for it in a page fault, where Go's scheduler does not know of it, and so could not serve it.

// diskDir is the directory.
type diskDir struct {
	fs.Inode
	disk *disk
}

// diskFile is one generation of the image.
type diskFile struct {
	fs.Inode
	disk       *disk
	generation int
}

var (
	_ fs.NodeLookuper  = (*diskDir)(nil)
	_ fs.NodeGetattrer = (*diskFile)(nil)
	_ fs.NodeOpener    = (*diskFile)(nil)
	_ fs.NodeReader    = (*diskFile)(nil)
	_ fs.NodeWriter    = (*diskFile)(nil)
	_ fs.NodeFsyncer   = (*diskFile)(nil)
)

func generationName(generation int) string { return "disk-" + strconv.Itoa(generation) }

func (d *diskDir) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	number, _ := strings.CutPrefix(name, "disk-")
	generation, err := strconv.Atoi(number)
	if err != nil || name != generationName(generation) {
		return nil, syscall.ENOENT
	}
	f := &diskFile{disk: d.disk, generation: generation}
	f.attributes(&out.Attr)
	return d.NewInode(ctx, f, fs.StableAttr{Mode: syscall.S_IFREG, Ino: uint64(generation) + 2}), 0
}

func (f *diskFile) attributes(a *fuse.Attr) {
	a.Mode, a.Size, a.Blocks = syscall.S_IFREG|0o600, uint64(len(f.disk.cache)), uint64(len(f.disk.cache)/sectorSize)
}

func (f *diskFile) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	f.attributes(&out.Attr)
	return 0
}

// Open keeps the kernel from having a page cache of its own for the image: it would hide what a failed write has left.
func (f *diskFile) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_DIRECT_IO, 0
}

func (f *diskFile) Read(_ context.Context, _ fs.FileHandle, b []byte, offset int64) (fuse.ReadResult, syscall.Errno) {
	n, errno := f.disk.read(f.generation, b, offset)
	return fuse.ReadResultData(b[:n]), errno
}

func (f *diskFile) Write(_ context.Context, _ fs.FileHandle, b []byte, offset int64) (uint32, syscall.Errno) {
	if errno := f.disk.write(f.generation, b, offset); errno != 0 {
		return 0, errno
	}
	return uint32(len(b)), 0
}

func (f *diskFile) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	return f.disk.flush(f.generation)
}

// Control is what the tests tell the process of the disk, by net/rpc over its standard input and output.
type Control struct {
	disk *disk
	told chan struct{}
}

// Nothing is the argument, or the answer, of those that need none.
type Nothing struct{}

// Load puts an image into the disk, in a new generation.
func (c *Control) Load(image string, generation *int) error {
	c.told <- struct{}{}
	b, err := readSparse(image)
	if err != nil {
		return err
	}
	*generation = c.disk.load(b)
	return nil
}

// readSparse reads a file and leaves memory that is zero untouched.
func readSparse(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	b := make([]byte, fi.Size())
	part := make([]byte, len(zeros))
	for offset := int64(0); ; offset += int64(len(part)) {
		n, err := io.ReadFull(f, part)
		copySparse(b[offset:], part[:n])
		switch err {
		case nil:
		case io.EOF, io.ErrUnexpectedEOF:
			return b, nil
		default:
			return nil, err
		}
	}
}

// Arm stops the disk with the nth write or flush from now.
func (c *Control) Arm(n int, _ *Nothing) error {
	c.told <- struct{}{}
	c.disk.arm(n)
	return nil
}

// Freeze stops the disk.
func (c *Control) Freeze(Nothing, *Nothing) error {
	c.told <- struct{}{}
	c.disk.freeze()
	return nil
}

// Frozen waits until the disk has stopped.
func (c *Control) Frozen(limit time.Duration, frozen *bool) error {
	c.told <- struct{}{}
	*frozen = c.disk.waitFrozen(limit)
	return nil
}

// Cut ends a generation, and says which is the next one.
func (c *Control) Cut(seed uint64, generation *int) error {
	c.told <- struct{}{}
	*generation = c.disk.cut(seed)
	return nil
}

// Fail makes the disk fail.
func (c *Control) Fail(f Fault, _ *Nothing) error {
	c.told <- struct{}{}
	c.disk.setFault(f)
	return nil
}

// Lie makes the disk acknowledge flushes that it does not do.
func (c *Control) Lie(lies bool, _ *Nothing) error {
	c.told <- struct{}{}
	c.disk.mu.Lock()
	defer c.disk.mu.Unlock()
	c.disk.lies = lies
	return nil
}

// Whole says which blocks are written as a whole.
func (c *Control) Whole(blocks []int64, _ *Nothing) error {
	c.told <- struct{}{}
	c.disk.mu.Lock()
	defer c.disk.mu.Unlock()
	c.disk.whole = blocks
	return nil
}

// Counts says what the disk has done.
func (c *Control) Counts(_ Nothing, n *Counts) error {
	c.told <- struct{}{}
	c.disk.mu.Lock()
	defer c.disk.mu.Unlock()
	*n = c.disk.counts
	return nil
}

// lease is how long the process of a disk lives without being told anything. Whoever waits for the disk then gets an error, so that no
// process hangs for ever.
const lease = 2 * time.Minute

// stdio is the connection to the tests.
type stdio struct {
	io.Reader
	io.Writer
}

func (stdio) Close() error { return nil }

// serveDisk is the process of the disk: it serves it in a directory until its standard input ends.
func serveDisk(dir string) error {
	defer giveUp(dir)
	d := newDisk(nil)
	_, err := fs.Mount(dir, &diskDir{disk: d}, &fs.Options{MountOptions: fuse.MountOptions{
		DirectMountStrict: true, FsName: "alder-faultdisk", Name: "faultdisk", MaxWrite: 512 << 10, DisableSplice: true, DisableXAttrs: true,
	}})
	if err != nil {
		return err
	}
	told := make(chan struct{})
	ended := make(chan struct{})
	r := rpc.NewServer()
	if err := r.Register(&Control{d, told}); err != nil {
		return err
	}
	go func() {
		defer close(ended)
		r.ServeConn(stdio{os.Stdin, os.Stdout})
	}()
	for {
		select {
		case <-told:
		case <-ended:
			return nil
		case <-time.After(lease):
			return fmt.Errorf("nobody has told the disk anything for %v", lease)
		}
	}
}
