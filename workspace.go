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
	seeks    int    // ways down to put something, in this transaction
	collect  int    // how many it takes until puts are collected
	patience int    // what is added to that when it was of no use
	splits   int64  // in this transaction
	merges   int64
	puts     struct { // memory to collect them
		entries []bufferedPut
		arena   []byte
	}
}

// bufferedPut is a put that has been collected. Its head orders most keys without a look at them.
type bufferedPut struct {
	head       uint64
	at         int
	key, value int32 // lengths
}

// collectAfter is the number of ways down in a transaction after which puts are collected.
const collectAfter = 8

// begin forgets what the last transaction has counted.
func (ws *workspace) begin() {
	ws.splits, ws.merges = 0, 0
	ws.seeks, ws.collect, ws.patience = 0, collectAfter, collectAfter
}

// collectLater lets puts be done at once for some time: to collect them was of no use.
func (ws *workspace) collectLater() {
	ws.patience = min(2*ws.patience, 1<<20)
	ws.collect = ws.seeks + ws.patience
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
