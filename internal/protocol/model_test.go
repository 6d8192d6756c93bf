package protocol

import "fmt"

// The model's disk, what lies on it, and the state of a store that works on it.

const (
	metas  = 2
	blocks = metas + 18 // of the file: the slots of the metas, then pages that may hold anything
)

// ref says where a page is and which transaction wrote it; page 0 stands for none.
type ref struct{ page, birth int8 }

// history lists transactions by their marks, four bits each, in order. A mark is never given to two transactions, whatever
// becomes of their numbers, so that no content is taken for another.
type history uint32

func (h history) with(mark int8) history { return h<<4 | history(mark) }

func (h history) length() (n int8) {
	for ; h != 0; h >>= 4 {
		n++
	}
	return n
}

// first returns the first n marks.
func (h history) first(n int8) history { return h >> (4 * (h.length() - n)) }

// at returns mark i, from 0.
func (h history) at(i int8) int8 { return int8(h >> (4 * (h.length() - 1 - i)) & 15) }

// snap is a state of the tree that somebody may look at.
type snap struct {
	id   int8 // its last transaction
	leaf [2]ref
}

type kind uint8

const (
	junk kind = iota
	leaf0
	leaf1
	value
	freeMap
	frame
	meta
)

// content is what a block may hold.
type content struct {
	kind  kind
	page  int8 // where it was written
	birth int8 // of a tree page, value or map; of a meta: its transaction; of a frame: its first transaction
	marks history
	value ref // of a leaf: the page of its value

	// Of a meta.
	sequence int8
	leaf     [2]ref
	freeMap  ref
	log      int8 // block in which the log begins; 0: no log
	previous number
	salt     int8
	clean    bool

	used uint32 // of a map: the pages that are in use

	// Of a frame, which has log's salt and previous too.
	values [2]ref // that its records refer to
	link   int8   // first block of the next run
	jump   bool
}

// number stands for a content; it serves as its checksum too.
type number uint16

const (
	nothing number = iota // bytes that mean nothing
	garbage               // what a write that was cut short leaves
)

// contents gives numbers to contents.
type contents struct {
	list    []content
	numbers map[content]number
}

func newContents() *contents {
	return &contents{list: []content{{}, {}}, numbers: map[content]number{}}
}

func (c *contents) number(x content) number {
	n, ok := c.numbers[x]
	if !ok {
		n = number(len(c.list))
		if int(n) != len(c.list) {
			panic("too many contents")
		}
		c.list = append(c.list, x)
		c.numbers[x] = n
	}
	return n
}

// use is what the freelist in memory knows of a page.
type use struct {
	kind  useKind
	birth int8
	freed int8 // by which transaction; 0: it is in use
}

type useKind uint8

const (
	unused useKind = iota
	inTree
	inValue
	inMap
	inLog
)

// group is a number of transactions that go into the log together.
type group struct {
	first  int8
	count  int8
	marks  history
	values [2]ref
	end    snap
	at     int8 // its block
	link   int8
	jump   bool
	closed bool
}

type phase uint8

const (
	down       phase = iota // not open
	synced                  // opened: the file has been synced
	chosen                  // the newest meta is on the medium
	replayed                // the log has been done again, in the page cache
	recovering              // and on the medium; the meta is next
	working
	closed
)

type checkpointPhase uint8

const (
	idle     checkpointPhase = iota
	begun                    // its state is settled, its map written
	written                  // its pages are in the page cache
	durable                  // and on the medium
	metaSent                 // its meta is being written
	trimming                 // a second one like it is being written
)

// checkpoint is one under way.
type checkpoint struct {
	phase    checkpointPhase
	snap     snap
	freeMap  ref
	log      int8
	previous number
	waits    bool // for its last group, for its place in the chain
	alone    bool // the writer lock is held: a large transaction, recovery, Close
	clean    bool // no log follows
	closing  bool
	mark     int8 // of a large transaction
}

// state is everything at one moment.
type state struct {
	// The disk: what readers of the file see, and what is on the medium. A block that is dirty will be written by the next sync.
	cache, medium [blocks]number
	dirty         uint32
	sending       uint32 // blocks of a durable write that has not returned, which may become garbage

	// What the tests know: the transactions that there may be, in order, and how many have been promised.
	order    history
	promised int8
	found    int8 // by the open under way
	marks    int8 // given out so far
	crashes  int8 // that may still come
	faults   int8 // failed writes that may still come
	cuts     int8 // checkpoints that may still begin
	opens    int8 // after an orderly close, that may still come

	phase  phase
	failed bool
	// The rest is in the memory of the process.
	durable, sealed, published, visible, tip, reader snap
	reading                                          bool
	slot                                             int8 // that holds the newest durable meta
	sequence, salt                                   int8
	durableMap                                       ref
	pages                                            [blocks]use
	unwritten                                        [blocks]number // pages in memory that are not in the file
	groups                                           [3]group
	queued                                           int8 // of groups
	appending                                        bool // the first group is on its way
	starting                                         bool // the first meta of a log is on its way
	log                                              bool
	plan                                             int8 // block of the next frame; 0: the run has no more
	previous                                         number
	runs                                             [4]int8 // the chain
	next                                             int8    // run that is ready
	begun                                            bool    // a transaction is at work that found pages to share
	floor                                            int8    // the newest snapshot that was pinned when it began
	checkpoint                                       checkpoint

	impossible bool // the step that led here cannot be done: there is no room, or it has to wait
}

// world is what the states of one exploration have in common.
type world struct {
	contents
	script  string          // kinds of transactions: a and b change a leaf, v a leaf and a long value, l both, by a checkpoint of its own
	without map[string]bool // rules that are missing
	reader  bool            // there is a reader
	explore func(step string, s *state)
	fail    func(format string, args ...any)
}

func (w *world) put(s *state, block int8, c content) number {
	c.page = block
	n := w.number(c)
	s.cache[block] = n
	s.dirty |= 1 << block
	return n
}

// send begins a durable write.
func (w *world) send(s *state, block int8, c content) number {
	s.sending |= 1 << block
	return w.put(s, block, c)
}

// arrive ends it.
func (s *state) arrive(block int8) {
	s.medium[block] = s.cache[block]
	s.dirty &^= 1 << block
	s.sending &^= 1 << block
}

// sync makes durable what is dirty.
func (s *state) sync() {
	for b := range int8(blocks) {
		if s.dirty>>b&1 == 1 {
			s.arrive(b)
		}
	}
}

// operation is the kind of the transaction with a mark.
func (w *world) operation(mark int8) byte { return w.script[(int(mark)-1)%len(w.script)] }

func changes(operation byte, leaf int) bool {
	switch operation {
	case 'a', 'v':
		return leaf == 0
	case 'b':
		return leaf == 1
	}
	return true
}

// expected is what leaf i holds after the transactions of a history.
func (w *world) expected(h history, i int) (marks history, value int8) {
	for k := range h.length() {
		if mark := h.at(k); changes(w.operation(mark), i) {
			marks = marks.with(mark)
			if w.operation(mark) == 'v' {
				value = mark
			}
		}
	}
	return marks, value
}

// read returns what the file shows of a snapshot; an error says what is wrong with it.
func (w *world) read(s *state, x snap, view func(ref) number) (marks [2]history, values [2]int8, err error) {
	for i, r := range x.leaf {
		c := w.list[view(r)]
		if c.kind != leaf0+kind(i) || c.birth != r.birth || c.page != r.page {
			return marks, values, fmt.Errorf("leaf %d of transaction %d is not in block %d, but kind %d of transaction %d", i, r.birth, r.page, c.kind, c.birth)
		}
		marks[i] = c.marks
		if c.value.page != 0 {
			v := w.list[s.cache[c.value.page]]
			if v.kind != value || v.birth != c.value.birth {
				return marks, values, fmt.Errorf("the value of transaction %d is not in block %d", c.value.birth, c.value.page)
			}
			values[i] = int8(v.marks)
		}
	}
	return marks, values, nil
}

// holds returns how many transactions of the order a snapshot shows.
func (w *world) holds(s *state, x snap) (int8, error) {
	marks, values, err := w.read(s, x, func(r ref) number { return s.cache[r.page] })
	if err != nil {
		return 0, err
	}
	for n := s.order.length(); n >= 0; n-- {
		same := true
		for i := range marks {
			m, v := w.expected(s.order.first(n), i)
			same = same && m == marks[i] && v == values[i]
		}
		if same {
			return n, nil
		}
	}
	return 0, fmt.Errorf("the leaves hold %x and %x, of %x", marks[0], marks[1], s.order)
}

// check holds a state of an open store against what must always be so.
func (w *world) check(s *state) {
	if s.phase != working || s.failed {
		return // of a failed store, readers may get errors
	}
	if _, err := w.holds(s, s.published); err != nil {
		w.fail("the published snapshot: %v", err)
	}
	if s.reading {
		if _, err := w.holds(s, s.reader); err != nil {
			w.fail("a reader: %v", err)
		}
	}
}

// normal forgets what can make no difference: what lies in pages that are free, and is no frame.
func (w *world) normal(s *state) {
	if s.phase != working {
		return
	}
	for b := int8(metas); b < blocks; b++ {
		if !w.free(s, b) {
			continue
		}
		s.unwritten[b] = 0
		s.pages[b] = use{}
		if w.list[s.cache[b]].kind != frame {
			s.cache[b] = nothing
		}
		if w.list[s.medium[b]].kind != frame {
			s.medium[b] = nothing
		}
		if s.cache[b] == s.medium[b] {
			s.dirty &^= 1 << b
		}
	}
}
