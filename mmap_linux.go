package alder

import "golang.org/x/sys/unix"

const mapNoReserve = unix.MAP_NORESERVE

// populateRead reads data[from:to] of a mapping into memory now, in one system call, so that the scheduler can run
// others meanwhile; a page fault would hold the processor. False: the kernel cannot (before 5.14), or a page could not
// be read; touching it will tell.
func populateRead(data []byte, from, to int64) bool {
	return advise(data, from, to, unix.MADV_POPULATE_READ)
}

// adviseHuge asks for huge pages for data, whole. The file's parts that are read through the mapping and are not in the page cache yet come
// into it in pieces of that size, on file systems that know pieces so large; what is there already stays as it is.
func adviseHuge(data []byte) { advise(data, 0, int64(len(data)), unix.MADV_HUGEPAGE) }
