package alder_test

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder"
)

// oracle is what a bucket ought to be: a sorted list of keys with values and nested buckets. Its methods mean
// what the methods of alder.Bucket with the same names are documented to mean, in the simplest way.
type oracle struct {
	sequence uint64
	entries  []oracleEntry // by key
}

type oracleEntry struct {
	key   string
	value string
	sub   *oracle // not nil for a nested bucket
}

// find returns the place of the key, or where it would be.
func (o *oracle) find(key string) (at int, found bool) {
	return slices.BinarySearchFunc(o.entries, key, func(e oracleEntry, k string) int { return cmp.Compare(e.key, k) })
}

// at returns the entry of the key, or nil.
func (o *oracle) at(key string) *oracleEntry {
	if i, found := o.find(key); found {
		return &o.entries[i]
	}
	return nil
}

func (o *oracle) put(key, value string) error {
	i, found := o.find(key)
	switch {
	case key == "":
		return alder.ErrKeyRequired
	case len(key) > alder.MaxKeySize:
		return alder.ErrKeyTooLarge
	case found && o.entries[i].sub != nil:
		return alder.ErrIncompatibleValue
	case found:
		o.entries[i].value = value
	default:
		o.entries = slices.Insert(o.entries, i, oracleEntry{key: key, value: value})
	}
	return nil
}

func (o *oracle) delete(key string) error {
	i, found := o.find(key)
	if found && o.entries[i].sub != nil {
		return alder.ErrIncompatibleValue
	}
	if found {
		o.entries = slices.Delete(o.entries, i, i+1)
	}
	return nil
}

func (o *oracle) create(name string) (*oracle, error) {
	i, found := o.find(name)
	switch {
	case name == "":
		return nil, alder.ErrBucketNameRequired
	case len(name) > alder.MaxKeySize:
		return nil, alder.ErrKeyTooLarge
	case found && o.entries[i].sub != nil:
		return o.entries[i].sub, alder.ErrBucketExists
	case found:
		return nil, alder.ErrIncompatibleValue
	}
	sub := &oracle{}
	o.entries = slices.Insert(o.entries, i, oracleEntry{key: name, sub: sub})
	return sub, nil
}

func (o *oracle) deleteBucket(name string) error {
	i, found := o.find(name)
	if !found {
		return alder.ErrBucketNotFound
	}
	if o.entries[i].sub == nil {
		return alder.ErrIncompatibleValue
	}
	o.entries = slices.Delete(o.entries, i, i+1)
	return nil
}

// moveBucket moves a bucket to another one, which must not be inside it.
func (o *oracle) moveBucket(name string, dst *oracle) error {
	i, found := o.find(name)
	switch {
	case !found:
		return alder.ErrBucketNotFound
	case o.entries[i].sub == nil:
		return alder.ErrIncompatibleValue
	case o == dst:
		return alder.ErrSameBuckets
	}
	moved := o.entries[i]
	j, taken := dst.find(name)
	if taken {
		if dst.entries[j].sub != nil {
			return alder.ErrBucketExists
		}
		return alder.ErrIncompatibleValue
	}
	o.entries = slices.Delete(o.entries, i, i+1)
	dst.entries = slices.Insert(dst.entries, j, moved)
	return nil
}

// span returns the places of the keys in [from, to); nil means unbounded.
func (o *oracle) span(from, to []byte) (i, j int) {
	j = len(o.entries)
	if from != nil {
		i, _ = o.find(string(from))
	}
	if to != nil {
		j, _ = o.find(string(to))
	}
	return i, max(i, j)
}

// deleteRange takes nested buckets along.
func (o *oracle) deleteRange(from, to []byte) uint64 {
	i, j := o.span(from, to)
	o.entries = slices.Delete(o.entries, i, j)
	return uint64(j - i)
}

// after returns the place of the first key greater than key, before of the last one that is less, or -1.
func (o *oracle) after(key string) int {
	i, found := o.find(key)
	if found {
		i++
	}
	if i == len(o.entries) {
		return -1
	}
	return i
}

func (o *oracle) before(key string) int {
	i, _ := o.find(key)
	return i - 1
}

// contains reports whether other is o or nested in it.
func (o *oracle) contains(other *oracle) bool {
	if o == other {
		return true
	}
	return slices.ContainsFunc(o.entries, func(e oracleEntry) bool { return e.sub != nil && e.sub.contains(other) })
}

// clone copies the oracle with all that is nested.
func (o *oracle) clone() *oracle {
	c := &oracle{sequence: o.sequence, entries: slices.Clone(o.entries)}
	for i := range c.entries {
		if sub := c.entries[i].sub; sub != nil {
			c.entries[i].sub = sub.clone()
		}
	}
	return c
}

// compare returns how a cursor over the bucket, its length, its sequence and its nested buckets differ from the
// oracle. A root has no *alder.Bucket: it is walked through the transaction.
func (o *oracle) compare(b *alder.Bucket) error {
	if b == nil {
		return fmt.Errorf("bucket is missing")
	}
	if got := b.Sequence(); got != o.sequence {
		return fmt.Errorf("sequence %d, want %d", got, o.sequence)
	}
	if got := b.Len(); got != uint64(len(o.entries)) {
		return fmt.Errorf("Len %d, want %d", got, len(o.entries))
	}
	return o.compareEntries(b.Cursor(), b.Bucket)
}

// compareRoot is compare for the root of a transaction.
func (o *oracle) compareRoot(tx *alder.Tx) error {
	if err := o.compareEntries(tx.Cursor(), tx.Bucket); err != nil {
		return err
	}
	return tx.Err()
}

func (o *oracle) compareEntries(c *alder.Cursor, nested func([]byte) *alder.Bucket) error {
	k, v := c.First()
	for i, e := range o.entries {
		if err := e.compare(k, v); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
		if e.sub != nil {
			if err := e.sub.compare(nested(k)); err != nil {
				return fmt.Errorf("in bucket %.20q: %w", e.key, err)
			}
		}
		k, v = c.Next()
	}
	if k != nil {
		return fmt.Errorf("a key too many: %.40q after %d entries", k, len(o.entries))
	}
	return nil
}

// compare says how a key and value from a cursor differ from the entry; a nil entry wants nil.
func (e *oracleEntry) compare(k, v []byte) error {
	switch {
	case e == nil && k == nil && v == nil:
		return nil
	case e == nil:
		return fmt.Errorf("got %.40q, want the end", k)
	case k == nil:
		return fmt.Errorf("got the end, want %.40q", e.key)
	case string(k) != e.key:
		return fmt.Errorf("got key %.40q (%d bytes), want %.40q (%d bytes)", k, len(k), e.key, len(e.key))
	case (v == nil) != (e.sub != nil):
		return fmt.Errorf("key %.40q: bucket: %v, want %v", k, v == nil, e.sub != nil)
	case string(v) != e.value:
		return fmt.Errorf("key %.40q: got %.40q (%d bytes), want %.40q (%d bytes)", k, v, len(v), e.value, len(e.value))
	}
	return nil
}

// entry returns the i-th entry, nil if there is none.
func (o *oracle) entry(i int) *oracleEntry {
	if i < 0 || i >= len(o.entries) {
		return nil
	}
	return &o.entries[i]
}

// requireOracle fails the test if the bucket differs.
func requireOracle(t testing.TB, o *oracle, b *alder.Bucket) {
	t.Helper()
	require.NoError(t, o.compare(b))
}

// near returns keys around those of the oracle, to ask about: existing ones, their neighbors, ends, nil.
func (o *oracle) near(pick func(n int) int) []byte {
	if len(o.entries) == 0 || pick(8) == 0 {
		return [][]byte{nil, {}, {0}, {0xff, 0xff, 0xff}, []byte("key-"), []byte("key-00000500")}[pick(6)]
	}
	k := []byte(o.entries[pick(len(o.entries))].key)
	switch pick(5) {
	case 0:
		return append(k, 0)
	case 1:
		k = bytes.Clone(k)
		k[len(k)-1]--
		return k
	case 2:
		return k[:pick(len(k)+1)]
	}
	return k
}
