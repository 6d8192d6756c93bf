package killtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/alderdb/alder"
)

// What a transaction does. An operation on something that is not there does nothing, in the store as in the model, so that what a transaction
// does follows from its number alone.

type opKind uint8

const (
	opPut opKind = iota
	opDelete
	opDeleteRange
	opCreate // a bucket, unless it is there
	opDrop
	opMove // bucket path to inside bucket to, unless one of that name is there
	opSequence
)

// op is one operation, inside a goroutine's bucket.
type op struct {
	kind opKind
	path []string // of the bucket that it is about
	to   []string
	key  string
	end  string // opDeleteRange: the first key behind
	v    value
}

func (o op) String() string {
	name := [...]string{"put", "delete", "delete range", "create bucket", "drop bucket", "move bucket", "sequence"}[o.kind]
	return fmt.Sprintf("%s %s %.40q %.40q %s", name, strings.Join(o.path, "/"), o.key, o.end, strings.Join(o.to, "/"))
}

// value stands for bytes that follow from a seed. The first eight of them are the seed.
type value struct {
	seed uint64
	size int // 0, or at least 8
}

const seedSize = 8

// bytes makes the value.
func (v value) bytes() []byte {
	b := make([]byte, v.size)
	v.fill(b)
	return b
}

func (v value) fill(b []byte) {
	if len(b) == 0 {
		return
	}
	binary.LittleEndian.PutUint64(b, v.seed)
	x := v.seed
	i := seedSize
	for ; i+8 <= len(b); i += 8 {
		x = x*6364136223846793005 + 1442695040888963407
		binary.LittleEndian.PutUint64(b[i:], x^x>>29)
	}
	for ; i < len(b); i++ {
		b[i] = byte(i) ^ byte(v.seed)
	}
}

// valueOf reads what a value stands for; ok is false if the bytes are not what they claim to be.
func valueOf(b []byte) (v value, ok bool) {
	if len(b) == 0 {
		return value{}, true
	}
	if len(b) < seedSize {
		return value{}, false
	}
	v = value{binary.LittleEndian.Uint64(b), len(b)}
	return v, bytes.Equal(b, v.bytes())
}

func hash(b []byte) uint64 { return xxhash.Sum64(b) }

// style is what the transactions of a goroutine are like.
type style struct {
	keys    int // different keys in a bucket
	long    int // every so many keys is long; 0: none
	size    int // most bytes of a value
	large   int // most bytes of every tenth value; 0: none
	ops     int // most operations of a transaction
	deletes int // percent of operations
	ranges  int
	buckets int
}

// styles are those of goroutines 0, 1, 2 …
var styles = []style{
	{keys: 30, size: 60, large: 9000, ops: 3, deletes: 20},                              // small and fast
	{keys: 3000, size: 300, long: 40, ops: 12, deletes: 25, ranges: 2},                  // trees of some depth
	{keys: 8, size: 20_000, large: 400_000, ops: 2, deletes: 30},                        // large values
	{keys: 40, size: 100, large: 3000, ops: 4, deletes: 10, ranges: 5, buckets: 40},     // buckets that come and go
	{keys: 20_000, size: 100, ops: 600, deletes: 10, ranges: 1, long: 500, buckets: 1},  // bulk
	{keys: 300, size: 1500, large: 60_000, ops: 8, deletes: 45, ranges: 10, buckets: 5}, // shrinking and growing
	{keys: 100, size: 12, ops: 1},                                                       // the smallest transactions
	{keys: 1000, size: 4200, large: 33_000, ops: 5, deletes: 20, long: 7, buckets: 10},  // values around the size of a page
}

// places are the buckets that operations are about, inside the goroutine's. Parents come first.
var places = [][]string{nil, {"a"}, {"b"}, {"a", "x"}, {"a", "y"}, {"b", "x"}, {"a", "x", "deep"}}

// moves are buckets that may be moved, and where to.
var moves = []struct{ from, to []string }{
	{[]string{"a", "y"}, []string{"b"}}, {[]string{"b", "y"}, []string{"a"}}, {[]string{"a", "x"}, nil}, {[]string{"x"}, []string{"a"}},
	{[]string{"b"}, []string{"a"}}, {[]string{"a", "b"}, nil},
}

// transaction returns the operations of transaction n of goroutine g.
func transaction(c Config, g int, n uint64) []op {
	rng := rand.New(rand.NewPCG(c.Seed^uint64(g)<<48, n))
	s := styles[g%len(styles)]
	var ops []op
	if n <= 3 {
		for _, path := range places[1:] {
			ops = append(ops, op{kind: opCreate, path: path})
		}
	}
	for range 1 + rng.IntN(s.ops) {
		ops = append(ops, s.op(rng))
	}
	switch n % 29 {
	case 7: // growth, taken away again later
		ops = append(ops, op{kind: opPut, key: "k-blob", v: value{rng.Uint64(), 50_000 + rng.IntN(500_000)}})
	case 21:
		ops = append(ops, op{kind: opDelete, key: "k-blob"})
	}
	return ops
}

func (s style) op(rng *rand.Rand) op {
	path := places[rng.IntN(len(places))]
	if rng.IntN(3) > 0 {
		path = nil
	}
	o := op{kind: opPut, path: path, key: s.key(rng.IntN(s.keys))}
	switch p := rng.IntN(100); {
	case p < s.deletes:
		o.kind = opDelete
	case p < s.deletes+s.ranges:
		o.kind = opDeleteRange
		from := rng.IntN(s.keys)
		o.key, o.end = s.key(from), s.key(from+1+rng.IntN(1+s.keys/4))
	case p < s.deletes+s.ranges+s.buckets:
		return bucketOp(rng)
	default:
		o.v = s.value(rng)
	}
	return o
}

// key is key number i. Some are long, all sort by their number.
func (s style) key(i int) string {
	key := fmt.Sprintf("k%06d", i)
	if s.long > 0 && i%s.long == 0 {
		key += strings.Repeat("long", 40+i*37%900)
	}
	return key
}

func (s style) value(rng *rand.Rand) value {
	size := s.size
	if s.large > 0 && rng.IntN(10) == 0 {
		size = s.large
	}
	v := value{rng.Uint64(), rng.IntN(size + 1)}
	if v.size < seedSize {
		return value{} // empty
	}
	return v
}

func bucketOp(rng *rand.Rand) op {
	path := places[1+rng.IntN(len(places)-1)]
	switch rng.IntN(6) {
	case 0:
		return op{kind: opDrop, path: path}
	case 1:
		m := moves[rng.IntN(len(moves))]
		return op{kind: opMove, path: m.from, to: m.to}
	case 2:
		return op{kind: opSequence, path: path}
	}
	return op{kind: opCreate, path: path}
}

// ---- in the store

// find returns the bucket at path inside b, nil if it is not there.
func find(b *alder.Bucket, path []string) *alder.Bucket {
	for _, name := range path {
		if b = b.Bucket([]byte(name)); b == nil {
			return nil
		}
	}
	return b
}

// perform does o in a goroutine's bucket.
func (o op) perform(root *alder.Bucket) (err error) {
	if o.kind == opCreate || o.kind == opDrop || o.kind == opMove {
		return o.performOnParent(root)
	}
	b := find(root, o.path)
	if b == nil {
		return root.Tx().Err()
	}
	switch o.kind {
	case opPut:
		return b.Put([]byte(o.key), o.v.bytes())
	case opDelete:
		return b.Delete([]byte(o.key))
	case opDeleteRange:
		_, err = b.DeleteRange([]byte(o.key), []byte(o.end))
	case opSequence:
		_, err = b.NextSequence()
	}
	return err
}

func (o op) performOnParent(root *alder.Bucket) error {
	last := len(o.path) - 1
	parent, name := find(root, o.path[:last]), []byte(o.path[last])
	if parent == nil {
		return root.Tx().Err()
	}
	there := parent.Bucket(name) != nil
	switch o.kind {
	case opCreate:
		_, err := parent.CreateBucketIfNotExists(name)
		return err
	case opDrop:
		if there {
			return parent.DeleteBucket(name)
		}
	case opMove:
		to := find(root, o.to)
		if there && to != nil && to.Bucket(name) == nil {
			return parent.MoveBucket(name, to)
		}
	}
	return root.Tx().Err()
}
