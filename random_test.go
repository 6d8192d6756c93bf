package alder

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

type rbucket struct {
	kv  map[string]string
	sub map[string]*rbucket
}

func newR() *rbucket { return &rbucket{map[string]string{}, map[string]*rbucket{}} }
func (r *rbucket) clone() *rbucket {
	c := newR()
	for k, v := range r.kv {
		c.kv[k] = v
	}
	for k, v := range r.sub {
		c.sub[k] = v.clone()
	}
	return c
}
func (r *rbucket) names() []string {
	var s []string
	for k := range r.kv {
		s = append(s, k)
	}
	for k := range r.sub {
		s = append(s, k)
	}
	slices.Sort(s)
	return s
}

func randomKey(rng *rand.Rand) []byte {
	alpha := []byte{0, 0, 0xff, 'a'}
	var n int
	switch rng.IntN(14) {
	case 0:
		n = 60 + rng.IntN(8)
	case 1:
		n = 510 + rng.IntN(5)
	case 2:
		n = 600 + rng.IntN(3)*1700
	default:
		n = 1 + rng.IntN(7)
	}
	k := make([]byte, n)
	if n > 20 {
		switch rng.IntN(3) {
		case 0: // long common parts
			fill := alpha[rng.IntN(4)]
			for i := range k {
				k[i] = fill
			}
			for range 2 {
				at := []int{0, 1, 57, 58, 59, n - 3, n - 2, n - 1}[rng.IntN(8)]
				k[at] = alpha[rng.IntN(4)]
			}
			return k
		}
	}
	for i := range k {
		k[i] = alpha[rng.IntN(4)]
	}
	return k
}

func randomValue(rng *rand.Rand, klen int) []byte {
	var n int
	switch rng.IntN(8) {
	case 0:
		n = max(0, maxCell(4096)-5-klen-1+rng.IntN(4))
	case 1:
		n = []int{0, 15, 16, 17, 4055, 4056, 4057, 8152, 9000}[rng.IntN(9)]
	case 2:
		n = rng.IntN(300)
	default:
		n = []int{0, 1, 8}[rng.IntN(3)]
	}
	v := make([]byte, n)
	for i := range v {
		v[i] = byte(rng.IntN(256))
	}
	return v
}

func randomCompare(t *testing.T, b *Bucket, r *rbucket, rng *rand.Rand, what string) {
	names := r.names()
	if b.Len() != uint64(len(names)) {
		t.Fatalf("%s: Len %d, want %d", what, b.Len(), len(names))
	}
	i := 0
	for k, v := range b.All() {
		if i >= len(names) || string(k) != names[i] {
			t.Fatalf("%s: key %d", what, i)
		}
		if w, ok := r.kv[names[i]]; ok {
			if v == nil || string(v) != w {
				t.Fatalf("%s: value of %x", what, k)
			}
		} else if v != nil {
			t.Fatalf("%s: bucket with value", what)
		}
		i++
	}
	if i != len(names) {
		t.Fatalf("%s: %d keys, want %d", what, i, len(names))
	}
	for range 6 {
		k := randomKey(rng)
		at, ok := slices.BinarySearch(names, string(k))
		if b.Rank(k) != uint64(at) {
			t.Fatalf("%s: rank of %x", what, k)
		}
		v := b.Get(k)
		w, isKey := r.kv[string(k)]
		if (v != nil) != (ok && isKey) || string(v) != w {
			t.Fatalf("%s: get of %x", what, k)
		}
		c := b.Cursor()
		sk, _ := c.Seek(k)
		if at == len(names) != (sk == nil) || sk != nil && string(sk) != names[at] {
			t.Fatalf("%s: seek", what)
		}
		pk, _ := c.Prev()
		if at == 0 != (pk == nil) || pk != nil && string(pk) != names[at-1] {
			t.Fatalf("%s: prev after seek %x: %x", what, k, pk)
		}
		k2 := randomKey(rng)
		want := 0
		for _, n := range names {
			if n >= string(k) && n < string(k2) {
				want++
			}
		}
		if b.Count(k, k2) != uint64(want) {
			t.Fatalf("%s: count", what)
		}
		if len(names) > 0 {
			j := rng.IntN(len(names))
			if ak, _ := b.At(uint64(j)); string(ak) != names[j] {
				t.Fatalf("%s: at", what)
			}
		}
	}
	for n, s := range r.sub {
		child := b.Bucket([]byte(n))
		if child == nil {
			t.Fatalf("%s: no bucket %x", what, n)
		}
		randomCompare(t, child, s, rng, what+"/"+fmt.Sprintf("%x", n[:min(len(n), 4)]))
	}
}

func TestRandom_Model(t *testing.T) {
	t.Parallel()
	for seed := randomFrom; seed <= randomSeeds; seed++ {
		rng := rand.New(rand.NewPCG(seed, 99))
		o := &Options{NoSync: seed%3 == 0}
		if seed%2 == 0 {
			o.DirtyLimit = 20000
		}
		db, err := OpenMemory(o)
		if err != nil {
			t.Fatal(err)
		}
		model := newR()
		if err := db.Update(func(tx *Tx) error { _, err := tx.CreateBucket([]byte("r")); return err }); err != nil {
			t.Fatal(err)
		}
		type old struct {
			tx *Tx
			m  *rbucket
		}
		var olds []old
		for round := 0; round < 25; round++ {
			next := model.clone()
			tx, err := db.Begin(true)
			if err != nil {
				t.Fatal(err)
			}
			type pair struct {
				b *Bucket
				m *rbucket
			}
			pick := func() pair {
				p := pair{tx.Bucket([]byte("r")), next}
				for rng.IntN(3) > 0 && len(p.m.sub) > 0 {
					var ns []string
					for n := range p.m.sub {
						ns = append(ns, n)
					}
					slices.Sort(ns)
					n := ns[rng.IntN(len(ns))]
					p = pair{p.b.Bucket([]byte(n)), p.m.sub[n]}
				}
				return p
			}
			must := func(err error, what string) {
				if err != nil {
					t.Fatalf("seed %d round %d: %s: %v", seed, round, what, err)
				}
			}
			nops := rng.IntN(120)
			for op := 0; op < nops; op++ {
				p := pick()
				k := randomKey(rng)
				names := p.m.names()
				if rng.IntN(2) == 0 && len(names) > 0 {
					k = []byte(names[rng.IntN(len(names))])
				}
				_, isSub := p.m.sub[string(k)]
				_, isKey := p.m.kv[string(k)]
				switch rng.IntN(16) {
				default:
					v := randomValue(rng, len(k))
					err := p.b.Put(k, v)
					if isSub {
						if err != ErrIncompatibleValue {
							t.Fatal(err)
						}
					} else {
						must(err, "put")
						p.m.kv[string(k)] = string(v)
					}
				case 0, 1, 2:
					err := p.b.Delete(k)
					if isSub {
						if err != ErrIncompatibleValue {
							t.Fatal(err)
						}
					} else {
						must(err, "delete")
						delete(p.m.kv, string(k))
					}
				case 3:
					_, err := p.b.CreateBucket(k)
					if isSub && err != ErrBucketExists || isKey && err != ErrIncompatibleValue {
						t.Fatal(err)
					}
					if !isSub && !isKey {
						must(err, "create")
						p.m.sub[string(k)] = newR()
					}
				case 4:
					if rng.IntN(3) == 0 {
						err := p.b.DeleteBucket(k)
						if isSub {
							must(err, "delete bucket")
							delete(p.m.sub, string(k))
						} else if err == nil {
							t.Fatal("no error")
						}
					}
				case 5:
					k2 := randomKey(rng)
					if len(names) > 3 && rng.IntN(3) > 0 {
						i := rng.IntN(len(names))
						k, k2 = []byte(names[i]), []byte(names[min(len(names)-1, i+rng.IntN(10))])
					}
					if rng.IntN(4) == 0 {
						n, err := p.b.DeleteRange(k, k2)
						must(err, "range")
						want := 0
						for _, x := range names {
							if x >= string(k) && x < string(k2) {
								want++
								delete(p.m.kv, x)
								delete(p.m.sub, x)
							}
						}
						if int(n) != want {
							t.Fatal("range count")
						}
					}
				case 6:
					q := pick()
					if isSub {
						err := p.b.MoveBucket(k, q.b)
						_, qs := q.m.sub[string(k)]
						_, qk := q.m.kv[string(k)]
						if err == nil {
							if qs || qk || p.b == q.b {
								t.Fatal("moved over")
							}
							q.m.sub[string(k)] = p.m.sub[string(k)]
							delete(p.m.sub, string(k))
						} else if err != ErrSameBuckets && !qs && !qk {
							t.Fatal(err)
						}
					}
				case 7:
					c := p.b.Cursor()
					kk, _ := c.Seek(k)
					for j := 0; j < 5 && kk != nil; j++ {
						if _, ok := p.m.kv[string(kk)]; ok && rng.IntN(2) == 0 {
							must(c.Delete(), "cursor delete")
							delete(p.m.kv, string(kk))
						}
						if rng.IntN(3) == 0 {
							x := randomKey(rng)
							if _, s := p.m.sub[string(x)]; !s {
								must(p.b.Put(x, nil), "put")
								p.m.kv[string(x)] = ""
							}
						}
						ns := p.m.names()
						i, found := slices.BinarySearch(ns, string(kk))
						if found {
							i++
						}
						nk, _ := c.Next()
						if i == len(ns) != (nk == nil) || nk != nil && string(nk) != ns[i] {
							t.Fatalf("seed %d: next of %x is %x", seed, kk, nk)
						}
						kk = nk
					}
				case 8:
					if rng.IntN(10) == 0 {
						for err := range tx.Check() {
							t.Fatalf("seed %d round %d: check in tx: %v", seed, round, err)
						}
					}
				case 9:
					if rng.IntN(10) == 0 {
						var buf bytes.Buffer
						_, err := tx.WriteTo(&buf)
						must(err, "WriteTo")
						if int64(buf.Len()) != tx.Size() {
							t.Fatalf("seed %d: Size %d, wrote %d", seed, tx.Size(), buf.Len())
						}
					}
				}
			}
			randomCompare(t, tx.Bucket([]byte("r")), next, rng, fmt.Sprintf("seed %d round %d in tx", seed, round))
			if rng.IntN(4) == 0 {
				must(tx.Rollback(), "rollback")
			} else {
				must(tx.Commit(), "commit")
				model = next
			}
			if err := db.View(func(tx *Tx) error {
				for err := range tx.Check() {
					return err
				}
				randomCompare(t, tx.Bucket([]byte("r")), model, rng, fmt.Sprintf("seed %d round %d", seed, round))
				return nil
			}); err != nil {
				t.Fatalf("seed %d round %d: %v", seed, round, err)
			}
			// the writer's view of all pages
			if err := db.Update(func(tx *Tx) error {
				for err := range tx.Check() {
					return err
				}
				return nil
			}); err != nil {
				t.Fatalf("seed %d round %d: writer's check: %v", seed, round, err)
			}
			if rng.IntN(3) == 0 {
				rtx, err := db.Begin(false)
				must(err, "begin")
				olds = append(olds, old{rtx, model.clone()})
			}
			if len(olds) > 3 || round == 24 {
				for len(olds) > 0 && (len(olds) > 3 || round == 24) {
					i := rng.IntN(len(olds))
					randomCompare(t, olds[i].tx.Bucket([]byte("r")), olds[i].m, rng, "old reader")
					for err := range olds[i].tx.Check() {
						t.Fatal("old reader: ", err)
					}
					must(olds[i].tx.Rollback(), "end")
					olds = slices.Delete(olds, i, i+1)
				}
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// limited refuses to grow past limit with ErrMaxSizeReached-like failure of the disk.
func TestRandom_LazyAtMaxSizeExact(t *testing.T) {
	for size := 4056; size < 4096*60; size += 4096 {
		db, err := OpenMemory(&Options{NoSync: true, MaxSize: 64 * 4096})
		if err != nil {
			t.Fatal(err)
		}
		commit := func(i, n int) error {
			return db.Update(func(tx *Tx) error {
				b, err := tx.CreateBucketIfNotExists([]byte("b"))
				if err != nil {
					return err
				}
				return b.Put(fmt.Appendf(nil, "%06d", i), make([]byte, n))
			})
		}
		first := commit(0, size)
		for i := 1; i < 100; i++ {
			if commit(i, 4056) != nil {
				break
			}
		}
		if err := db.Sync(); err != nil {
			t.Errorf("size %d (%v): lazily committed, and cannot be made durable: %v", size, first, err)
			db.Close()
			return
		}
		db.Close()
	}
}

var randomFrom, randomSeeds uint64 = 1, 40
