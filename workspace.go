package alder

// workspace is memory that the operations of one writer share, so that they need not allocate.
type workspace struct {
	pageSize int
	source   []page // copies of pages that are being rebuilt
	cells    []leafCell
	entries  []branchEntry
	arena    []byte        // separators of entries
	fresh    []branchEntry // entries for new leaves
	cuts     []byte        // separators of fresh
	ends     []int
	key      []byte // stored form of an overflow key
	evicted  uint64 // counts the times when dirty pages were written out and dropped
	splits   int64  // in this transaction
	merges   int64
}

func newWorkspace(pageSize int) *workspace { return &workspace{pageSize: pageSize} }

// copyOf returns a copy of p in slot i of the workspace.
func (ws *workspace) copyOf(i int, p page) page {
	for len(ws.source) <= i {
		ws.source = append(ws.source, make(page, ws.pageSize))
	}
	c := ws.source[i][:len(p)]
	copy(c, p)
	return c
}
