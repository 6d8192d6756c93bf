package alder

import (
	"iter"
	"maps"
	"slices"
)

// openBuckets are the nested buckets of a bucket that a write transaction has opened; their state is newer than the cells of the tree.
// Most transactions open one, which takes no map.
type openBuckets struct {
	first *Bucket
	rest  map[string]*Bucket
}

// get returns the bucket of that name; nil if it has not been opened.
func (o *openBuckets) get(name []byte) *Bucket {
	if o.first != nil && string(o.first.w.name) == string(name) {
		return o.first
	}
	return o.rest[string(name)]
}

// add takes a bucket in whose name is not there.
func (o *openBuckets) add(b *Bucket) {
	switch {
	case o.first == nil:
		o.first = b
	case o.rest == nil:
		o.rest = map[string]*Bucket{string(b.w.name): b}
	default:
		o.rest[string(b.w.name)] = b
	}
}

// remove forgets the bucket of that name.
func (o *openBuckets) remove(name []byte) {
	if o.first != nil && string(o.first.w.name) == string(name) {
		o.first = nil
		return
	}
	delete(o.rest, string(name))
}

// sorted returns the buckets by name.
func (o *openBuckets) sorted() iter.Seq[*Bucket] {
	return func(yield func(*Bucket) bool) {
		if len(o.rest) == 0 {
			if o.first != nil {
				yield(o.first)
			}
			return
		}
		names := slices.Collect(maps.Keys(o.rest))
		if o.first != nil {
			names = append(names, string(o.first.w.name))
		}
		slices.Sort(names)
		for _, name := range names {
			if b := o.get([]byte(name)); b != nil && !yield(b) {
				return
			}
		}
	}
}

// follow lets b, and the buckets that have been opened in it, know the new places of pages that have moved. Cursors seek theirs anew.
func (b *Bucket) follow(moved map[pgid]pageRef) {
	if to, ok := moved[b.tree.root.id]; ok {
		b.tree.root = to
	}
	b.tree.changes++
	for child := range b.w.children.sorted() {
		child.follow(moved)
	}
}
