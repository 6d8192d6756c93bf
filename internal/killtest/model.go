package killtest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/alderdb/alder"
)

// bucket is what a bucket must hold.
type bucket struct {
	sequence uint64
	values   map[string]value
	buckets  map[string]*bucket
}

func newBucket() *bucket {
	return &bucket{values: map[string]value{}, buckets: map[string]*bucket{}}
}

// find returns the bucket at path inside b, nil if it is not there.
func (b *bucket) find(path []string) *bucket {
	for _, name := range path {
		if b = b.buckets[name]; b == nil {
			return nil
		}
	}
	return b
}

// do does o in the model of a goroutine's bucket, exactly as op.perform does it in a store.
func (b *bucket) do(o op) {
	if o.kind == opCreate || o.kind == opDrop || o.kind == opMove {
		b.doOnParent(o)
		return
	}
	in := b.find(o.path)
	if in == nil {
		return
	}
	switch o.kind {
	case opPut:
		in.values[o.key] = o.v
	case opDelete:
		delete(in.values, o.key)
	case opDeleteRange:
		maps.DeleteFunc(in.values, func(k string, _ value) bool { return k >= o.key && k < o.end })
	case opSequence:
		in.sequence++
	}
}

func (b *bucket) doOnParent(o op) {
	last := len(o.path) - 1
	parent, name := b.find(o.path[:last]), o.path[last]
	if parent == nil {
		return
	}
	there := parent.buckets[name]
	switch o.kind {
	case opCreate:
		if there == nil {
			parent.buckets[name] = newBucket()
		}
	case opDrop:
		delete(parent.buckets, name)
	case opMove:
		if to := b.find(o.to); there != nil && to != nil && to.buckets[name] == nil {
			delete(parent.buckets, name)
			to.buckets[name] = there
		}
	}
}

// names are the keys and nested buckets of b in order.
func (b *bucket) names() []string {
	all := slices.AppendSeq(slices.Collect(maps.Keys(b.values)), maps.Keys(b.buckets))
	slices.Sort(all)
	return all
}

// compare holds a bucket of a store against b and returns how many keys it has verified. path is its name in messages.
func (b *bucket) compare(in *alder.Bucket, path []string) (keys int64, err error) {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("bucket %s: "+format, append([]any{strings.Join(path, "/")}, args...)...)
	}
	if in.Sequence() != b.sequence {
		return 0, fail("its sequence is %d, must be %d", in.Sequence(), b.sequence)
	}
	want := b.names()
	for k, v := range in.All() {
		if len(want) == 0 || string(k) != want[0] {
			next := "the end"
			if len(want) > 0 {
				next = fmt.Sprintf("%.60q", want[0])
			}
			return keys, fail("found key %.60q where %s must be", k, next)
		}
		want = want[1:]
		sub := b.buckets[string(k)]
		switch {
		case sub == nil && v == nil:
			return keys, fail("found a bucket %.60q where a key must be", k)
		case sub != nil && v != nil:
			return keys, fail("found a key %.60q where a bucket must be", k)
		case sub != nil:
			child := in.Bucket(k)
			if child == nil {
				return keys, fail("bucket %.60q cannot be opened: %w", k, in.Tx().Err())
			}
			n, err := sub.compare(child, append(path[:len(path):len(path)], string(k)))
			if keys += n; err != nil {
				return keys, err
			}
			continue
		}
		keys++
		found, ok := valueOf(v)
		if must := b.values[string(k)]; !ok || found != must {
			return keys, fail("the value of key %.60q is %s, must be %s", k, describe(v), describe(must.bytes()))
		}
	}
	if err := in.Tx().Err(); err != nil {
		return keys, fail("%w", err)
	}
	if len(want) > 0 {
		return keys, fail("key %.60q and %d more are missing at its end", want[0], len(want)-1)
	}
	return keys, nil
}

// describe is a value in a message.
func describe(b []byte) string {
	if _, ok := valueOf(b); !ok {
		return fmt.Sprintf("%d bytes that nobody has put, %.16x…", len(b), b)
	}
	return fmt.Sprintf("%d bytes %.8x…", len(b), b)
}
