package alder

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
)

// Operation scripts and the model that says what a store must hold after them. A script has a text form, so
// that a failing one can be shrunk, printed and committed. Operations that make no sense in the state they meet
// (a put into a bucket that does not exist, a move onto a key) are skipped, by the model, for everybody: so every
// subset of a script is a script.

// crashBucket is the content of one bucket in the model. The root bucket holds only buckets. States share the buckets in which they do not differ.
type crashBucket struct {
	sequence uint64
	values   map[string]string
	buckets  map[string]*crashBucket

	owner  uint64 // number of the state for which it was made
	sum    uint64 // hash of the content, if summed
	summed bool
}

var crashOwners atomic.Uint64 // numbers given out

func newCrashBucket() *crashBucket {
	return &crashBucket{values: map[string]string{}, buckets: map[string]*crashBucket{}}
}

// next returns a root that begins as a copy of b.
func (b *crashBucket) next() *crashBucket { return b.copyFor(crashOwners.Add(1)) }

func (b *crashBucket) copyFor(owner uint64) *crashBucket {
	return &crashBucket{sequence: b.sequence, values: maps.Clone(b.values), buckets: maps.Clone(b.buckets), owner: owner}
}

// writable returns the bucket at a path of root b, nil if there is none, as one that no other state has.
func (b *crashBucket) writable(path []string) *crashBucket {
	owner := b.owner
	for _, name := range path {
		b.summed = false
		sub := b.buckets[name]
		if sub == nil {
			return nil
		}
		if sub.owner != owner {
			sub = sub.copyFor(owner)
			b.buckets[name] = sub
		}
		b = sub
	}
	b.summed = false
	return b
}

// at returns the bucket at a path, nil if there is none.
func (b *crashBucket) at(path []string) *crashBucket {
	for _, name := range path {
		if b = b.buckets[name]; b == nil {
			return nil
		}
	}
	return b
}

// names returns all keys in order.
func (b *crashBucket) names() []string {
	list := make([]string, 0, len(b.values)+len(b.buckets))
	for k := range b.values {
		list = append(list, k)
	}
	for k := range b.buckets {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}

// crashDigest hashes a content in key order; a store is walked through the same three calls. The hash of a bucket is made of those of its values and
// of its buckets.
type crashDigest struct {
	open  []crashSum // the root, and the buckets in which the walk is
	depth int        // of open
}

type crashSum struct {
	h    xxhash.Digest
	name []byte
}

func newCrashDigest() *crashDigest {
	d := &crashDigest{}
	_ = d.enter(nil, 0)
	return d
}

func (s *crashSum) number(n uint64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], n)
	s.h.Write(b[:])
}

func (s *crashSum) value(key, value []byte) {
	s.number(uint64(len(key))<<1 | 1)
	s.h.Write(key)
	s.number(uint64(len(value)))
	s.h.Write(value)
}

func (s *crashSum) bucket(name []byte, sum uint64) {
	s.number(uint64(len(name)) << 1)
	s.h.Write(name)
	s.number(sum)
}

func (d *crashDigest) value(key, value []byte) error {
	d.open[d.depth-1].value(key, value)
	return nil
}

func (d *crashDigest) enter(name []byte, sequence uint64) error {
	if len(d.open) == d.depth {
		d.open = append(d.open, crashSum{})
	}
	s := &d.open[d.depth]
	d.depth++
	s.name = name
	s.h.Reset()
	s.number(sequence)
	return nil
}

func (d *crashDigest) leave() {
	s := &d.open[d.depth-1]
	d.depth--
	d.open[d.depth-1].bucket(s.name, s.h.Sum64())
}

// sum is the hash of all that was shown.
func (d *crashDigest) sum() uint64 { return d.open[0].h.Sum64() }

// digest is the hash of a bucket's content.
func (b *crashBucket) digest() uint64 {
	if b.summed {
		return b.sum
	}
	var s crashSum
	s.h.Reset()
	s.number(b.sequence)
	for _, name := range b.names() {
		if sub := b.buckets[name]; sub != nil {
			s.bucket([]byte(name), sub.digest())
		} else {
			s.value([]byte(name), []byte(b.values[name]))
		}
	}
	b.sum, b.summed = s.h.Sum64(), true
	return b.sum
}

// crashState is one state that a store may be in. It is never modified.
type crashState struct {
	root   *crashBucket
	digest uint64
	tx     int // number of transactions before it, for messages
}

func newCrashState(root *crashBucket, tx int) *crashState {
	return &crashState{root, root.digest(), tx}
}

// describe lists a content, for messages.
func (b *crashBucket) describe(w *strings.Builder, indent string) {
	for _, name := range b.names() {
		if sub := b.buckets[name]; sub != nil {
			fmt.Fprintf(w, "%s%.20q/ sequence %d\n", indent, name, sub.sequence)
			sub.describe(w, indent+"  ")
		} else {
			v := b.values[name]
			fmt.Fprintf(w, "%s%.20q (%d) = %.24q (%d, %x)\n", indent, name, len(name), v, len(v), xxhash.Sum64String(v))
		}
	}
}

func (s *crashState) String() string {
	var w strings.Builder
	fmt.Fprintf(&w, "after transaction %d:\n", s.tx)
	s.root.describe(&w, "  ")
	return w.String()
}

// ---- operations

// scriptOp is one operation. Its text form is its kind, then path, key, other path and numbers as they apply;
// "-" is the empty path.
type scriptOp struct {
	kind  string // put del bucket delbucket move next setseq delrange, or a step of its own: see scriptStep
	path  []string
	key   string
	key2  string   // delrange: the end
	path2 []string // move: the destination
	n     int      // put: length of the value; setseq: the number
	salt  int      // put: makes values differ
	made  string   // put: the value, when it has been made
}

// scriptStep is one transaction, or something else that a program does between transactions.
type scriptStep struct {
	// "tx", "lazy", "full", "rollback": the operations in one transaction, of that durability; "reopen", "sync", "reader", "endreader";
	// "checkpoint": one begins, and stops there; "checkpoint-sync", "checkpoint-meta": in its sync, or while it writes its meta;
	// "shrink": the file becomes as short as it can be; "lower": it only could; "punch": the blocks of free pages go back to the file system;
	// "endcheckpoint": it goes on. "flight": a full transaction that stops while it is appended to the log; "land": it goes on.
	kind string
	ops  []scriptOp
}

type script []scriptStep

func (o scriptOp) value() string {
	if o.made != "" {
		return o.made
	}
	b := make([]byte, o.n)
	seed := xxhash.Sum64String(fmt.Sprint(o.key, o.salt, o.n))
	for i := range b {
		if i%64 == 0 {
			seed = seed*6364136223846793005 + 1442695040888963407
		}
		b[i] = byte(seed>>(i%56)) ^ byte(i)
	}
	return string(b)
}

// scriptKey expands a short key in a script: "k7*900" is a key of 900 bytes.
func scriptKey(s string) string {
	if name, n, ok := strings.Cut(s, "*"); ok {
		var length int
		fmt.Sscan(n, &length)
		return name + strings.Repeat("x", max(0, length-len(name)))
	}
	return s
}

func (o scriptOp) String() string {
	path := func(p []string) string { return cmp.Or(strings.Join(p, "/"), "-") }
	switch o.kind {
	case "put":
		return fmt.Sprintf("put %s %s %d %d", path(o.path), o.key, o.n, o.salt)
	case "del", "bucket", "delbucket":
		return fmt.Sprintf("%s %s %s", o.kind, path(o.path), o.key)
	case "move":
		return fmt.Sprintf("move %s %s %s", path(o.path), o.key, path(o.path2))
	case "setseq":
		return fmt.Sprintf("setseq %s %d", path(o.path), o.n)
	case "delrange":
		return fmt.Sprintf("delrange %s %s %s", path(o.path), o.key, o.key2)
	}
	return fmt.Sprintf("%s %s", o.kind, path(o.path))
}

func (s script) String() string {
	var w strings.Builder
	for _, step := range s {
		fmt.Fprintln(&w, step.kind)
		for _, o := range step.ops {
			fmt.Fprintf(&w, "\t%s\n", o)
		}
	}
	return w.String()
}

// parseScript reads the text form. It panics on an error: scripts are part of the tests.
func parseScript(text string) script {
	var s script
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		switch f[0] {
		case "tx", "lazy", "full", "rollback", "reopen", "sync", "reader", "endreader", "checkpoint", "checkpoint-sync", "checkpoint-meta", "endcheckpoint", "flight", "land", "shrink", "punch", "lower":
			s = append(s, scriptStep{kind: f[0]})
			continue
		}
		o := scriptOp{kind: f[0]}
		path := func(s string) []string {
			if s == "-" {
				return nil
			}
			return strings.Split(s, "/")
		}
		o.path = path(f[1])
		var err error
		switch o.kind {
		case "put":
			o.key = f[2]
			_, err = fmt.Sscan(f[3]+" "+f[4], &o.n, &o.salt)
		case "del", "bucket", "delbucket":
			o.key = f[2]
		case "move":
			o.key, o.path2 = f[2], path(f[3])
		case "setseq":
			_, err = fmt.Sscan(f[2], &o.n)
		case "delrange":
			o.key, o.key2 = f[2], f[3]
		case "next":
		default:
			panic("script: unknown operation " + line)
		}
		if err != nil {
			panic("script: " + line + ": " + err.Error())
		}
		last := &s[len(s)-1]
		last.ops = append(last.ops, o)
	}
	return s
}

// apply performs o on the model and reports whether it makes sense there; if not, nothing is changed.
func (o scriptOp) apply(root *crashBucket) bool {
	b := root.writable(o.path)
	key := scriptKey(o.key)
	if b == nil {
		return false
	}
	_, isValue := b.values[key]
	sub := b.buckets[key]
	inRoot := len(o.path) == 0
	switch o.kind {
	case "put":
		if inRoot || sub != nil {
			return false
		}
		b.values[key] = o.value()
	case "del":
		if inRoot || !isValue {
			return false
		}
		delete(b.values, key)
	case "bucket":
		if isValue || sub != nil {
			return false
		}
		b.buckets[key] = &crashBucket{values: map[string]string{}, buckets: map[string]*crashBucket{}, owner: root.owner}
	case "delbucket":
		if sub == nil {
			return false
		}
		delete(b.buckets, key)
	case "move":
		return o.applyMove(root, b, sub, key)
	case "next":
		if inRoot {
			return false
		}
		b.sequence++
	case "setseq":
		if inRoot {
			return false
		}
		b.sequence = uint64(o.n)
	case "delrange":
		to := scriptKey(o.key2)
		if inRoot || key > to {
			return false
		}
		maps.DeleteFunc(b.values, func(k, _ string) bool { return key <= k && k < to })
		maps.DeleteFunc(b.buckets, func(k string, _ *crashBucket) bool { return key <= k && k < to })
	}
	return true
}

func (o scriptOp) applyMove(root, from, sub *crashBucket, key string) bool {
	to := root.writable(o.path2)
	if sub == nil || to == nil || to == from {
		return false
	}
	// Not into itself or below.
	if len(o.path2) > len(o.path) && slices.Equal(o.path2[:len(o.path)], o.path) && o.path2[len(o.path)] == o.key {
		return false
	}
	if _, taken := to.values[key]; taken || to.buckets[key] != nil {
		return false
	}
	delete(from.buckets, key)
	to.buckets[key] = sub
	return true
}

// effective returns those operations of ops that make sense one after the other on s, and the state after them.
func (s *crashState) effective(ops []scriptOp) ([]scriptOp, *crashState) {
	root := s.root.next()
	var list []scriptOp
	for _, o := range ops {
		if o.kind == "put" {
			o.made = o.value()
		}
		if o.apply(root) {
			list = append(list, o)
		}
	}
	return list, newCrashState(root, s.tx+1)
}

// ---- generation

// scriptStyle bends the distribution of generated operations; it is drawn once per script.
type scriptStyle struct {
	keys    int // number of different keys
	value   int // usual length of a value
	large   int // 1 of so many values is long
	long    int // 1 of so many keys is long; 0: none
	ops     int // operations per transaction, at most
	deletes int // percent
}

func randomStyle(rng *rand.Rand) scriptStyle {
	return scriptStyle{
		keys:    []int{4, 12, 40, 120}[rng.IntN(4)],
		value:   []int{8, 40, 300, 900}[rng.IntN(4)],
		large:   []int{5, 20, 100}[rng.IntN(3)],
		long:    []int{0, 0, 4, 30}[rng.IntN(4)],
		ops:     []int{1, 3, 8, 30}[rng.IntN(4)],
		deletes: []int{5, 20, 45}[rng.IntN(3)],
	}
}

var scriptPaths = [][]string{{"a"}, {"b"}, {"a", "s"}, {"a", "s", "u"}, {"b", "s"}}

func (st scriptStyle) key(rng *rand.Rand) string {
	i := rng.IntN(st.keys)
	if st.long > 0 && i%st.long == 0 {
		return fmt.Sprintf("k%d*%d", i, 300+i*37%1500)
	}
	return fmt.Sprintf("k%d", i)
}

func (st scriptStyle) op(rng *rand.Rand) scriptOp {
	path := scriptPaths[min(rng.IntN(len(scriptPaths)), rng.IntN(len(scriptPaths)))]
	parent, name := path[:len(path)-1], path[len(path)-1]
	switch r := rng.IntN(100); {
	case r < st.deletes:
		return scriptOp{kind: "del", path: path, key: st.key(rng)}
	case r < st.deletes+4:
		return scriptOp{kind: "bucket", path: parent, key: name}
	case r < st.deletes+5:
		return scriptOp{kind: "delbucket", path: parent, key: name}
	case r < st.deletes+6:
		return scriptOp{kind: "move", path: parent, key: name, path2: scriptPaths[rng.IntN(len(scriptPaths))]}
	case r < st.deletes+7:
		return scriptOp{kind: "next", path: path}
	case r < st.deletes+8:
		return scriptOp{kind: "setseq", path: path, n: rng.IntN(1000)}
	case r < st.deletes+10:
		to := st.key(rng)
		if rng.IntN(4) == 0 {
			to = "z" // nested buckets too
		}
		return scriptOp{kind: "delrange", path: path, key: st.key(rng), key2: to}
	}
	n := rng.IntN(st.value*2 + 1)
	if rng.IntN(st.large) == 0 {
		n = 1000 + rng.IntN(12000)
	}
	return scriptOp{kind: "put", path: path, key: st.key(rng), n: n, salt: rng.IntN(1000)}
}

func (st scriptStyle) tx(rng *rand.Rand) []scriptOp {
	ops := make([]scriptOp, 1+rng.IntN(st.ops))
	for i := range ops {
		ops[i] = st.op(rng)
	}
	return ops
}

// randomScript generates steps steps, the first of which makes the buckets that most others use.
func randomScript(rng *rand.Rand, st scriptStyle, steps int) script {
	first := scriptStep{kind: "tx"}
	for _, p := range scriptPaths[:2+rng.IntN(len(scriptPaths)-1)] {
		first.ops = append(first.ops, scriptOp{kind: "bucket", path: p[:len(p)-1], key: p[len(p)-1]})
	}
	s := script{first}
	for len(s) < steps {
		switch r := rng.IntN(100); {
		case r < 8:
			s = append(s, scriptStep{kind: "rollback", ops: st.tx(rng)})
		case r < 12:
			s = append(s, scriptStep{kind: "reopen"})
		case r < 19:
			s = append(s, scriptStep{kind: "reader"})
		case r < 24:
			s = append(s, scriptStep{kind: "endreader"})
		case r < 27:
			s = append(s, scriptStep{kind: "sync"})
		case r < 35:
			s = append(s, scriptStep{kind: randomCheckpoint(rng)})
		case r < 38:
			s = append(s, scriptStep{kind: "endcheckpoint"})
		case r < 42:
			s = append(s, scriptStep{kind: "land"})
		case r < 45:
			s = append(s, scriptStep{kind: "shrink"})
		case r < 49:
			s = append(s, scriptStep{kind: []string{"punch", "punch", "lower"}[rng.IntN(3)]})
		default:
			s = append(s, scriptStep{kind: randomLevel(rng), ops: st.tx(rng)})
		}
	}
	return s
}

// randomLevel is the kind of step of a transaction.
func randomLevel(rng *rand.Rand) string {
	return []string{"tx", "tx", "tx", "tx", "full", "lazy", "lazy", "lazy", "flight"}[rng.IntN(9)]
}

func randomCheckpoint(rng *rand.Rand) string {
	return []string{"checkpoint", "checkpoint-sync", "checkpoint-meta"}[rng.IntN(3)]
}
