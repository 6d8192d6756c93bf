package alder

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// loses reports whether d says that the key of that bucket is lost.
func (d *Damage) loses(path []string, key string) bool {
	for i, name := range d.Bucket {
		if i >= len(path) || path[i] != string(name) {
			return false
		}
	}
	if len(path) > len(d.Bucket) {
		key = path[len(d.Bucket)] // of the bucket around it
	}
	k := []byte(key)
	switch d.Kind {
	case DamagedKey:
		return bytes.HasPrefix(k, d.From)
	case DamagedSeparator, DamagedMap, DamagedMeta, DamagedLog:
		return false
	}
	return (d.From == nil || bytes.Compare(k, d.From) >= 0) && (d.To == nil || bytes.Compare(k, d.To) < 0)
}

// checkedDamage runs a check and returns what it yields, all of which must be of damage.
func checkedDamage(t *testing.T, db *DB) (damage []*Damage, others []error) {
	err := db.View(func(tx *Tx) error {
		for err := range tx.Check() {
			var d *Damage
			switch {
			case errors.As(err, &d):
				damage = append(damage, d)
			default:
				others = append(others, err)
			}
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("does not match ErrCorrupt: %v", err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return damage, others
}

// eachKey calls fn for every key of the model, nested buckets not included.
func (b *crashBucket) eachKey(path []string, fn func(path []string, key string)) {
	for _, name := range b.names() {
		if sub := b.buckets[name]; sub != nil {
			sub.eachKey(append(path[:len(path):len(path)], name), fn)
		} else {
			fn(path, name)
		}
	}
}

// readable reports whether a key can be read.
func readable(db *DB, path []string, key string) bool {
	return db.View(func(tx *Tx) error {
		b, err := bucketAt(tx, path)
		if err != nil {
			return err
		}
		v, err := b.Lookup([]byte(key))
		if err == nil && v == nil {
			return errors.New("not there")
		}
		return err
	}) == nil
}

// Ensures that the check names each page that is damaged, and with it exactly the keys that cannot be read, whichever page it is; and that it
// goes on to the next one.
func TestCheck_NamesWhatIsLost(t *testing.T) {
	for _, pageSize := range []int{4096, 8192} {
		s := newSabotageTarget(t, pageSize)
		kinds := map[DamageKind]int{}
		for first := firstPage; first < pgid(s.pages()); first++ {
			for _, second := range []pgid{0, firstPage + (first*7+3)%(pgid(s.pages())-firstPage)} {
				image := bytes.Clone(s.image)
				bad := []pgid{first}
				if second > 0 && second != first {
					bad = append(bad, second)
				}
				for _, id := range bad {
					simFill(image[int(id)*pageSize:(int(id)+1)*pageSize], 0xA7)
				}
				d := loadSimDisk(simConfig{}, image)
				if db, err := openStorage(d, &Options{ReadOnly: true}); err == nil {
					for _, found := range mustNameLosses(t, s, db, bad) {
						kinds[found.Kind]++
					}
					db.Close()
				}
				d.release()
			}
		}
		for _, kind := range []DamageKind{DamagedLeaf, DamagedTree, DamagedKey, DamagedValue} {
			if kinds[kind] == 0 {
				t.Errorf("page size %d: no %s was damaged: %v", pageSize, kind, kinds)
			}
		}
	}
}

// mustNameLosses holds what the check says against what can be read.
func mustNameLosses(t *testing.T, s *sabotageTarget, db *DB, bad []pgid) []*Damage {
	damage, others := checkedDamage(t, db)
	sum, lost := int64(0), int64(0)
	for _, d := range damage {
		sum += d.Keys // what buckets nested in a lost page hold, nobody has counted
		if d.Keys < 0 {
			t.Errorf("pages %d: keys are not counted: %v", bad, d)
		}
	}
	s.last().root.eachKey(nil, func(path []string, key string) {
		named := false
		for _, d := range damage {
			named = named || d.loses(path, key)
		}
		if named {
			lost++
		}
		if can := readable(db, path, key); can == named {
			t.Errorf("pages %d: key %.20q in %v: readable %v, named as lost %v; check: %v %v", bad, key, path, can, named, damage, others)
		}
	})
	if sum > lost {
		t.Errorf("pages %d: %d keys are counted as lost, it is %d: %v", bad, sum, lost, damage)
	}
	return damage
}

// Ensures that the text of a damage says what was there and what is lost.
func TestDamage_Text(t *testing.T) {
	cause := corrupt(7, "checksum does not match")
	long := []byte(strings.Repeat("x", 100))
	for _, c := range []struct {
		d    Damage
		want string
	}{
		{Damage{Kind: DamagedLeaf, Bucket: [][]byte{[]byte("a"), []byte("b")}, From: []byte("k1"), To: []byte("k5"), Keys: 4},
			`it held a leaf of bucket "a"/"b": 4 keys are lost, from "k1" up to, without, "k5"`},
		{Damage{Kind: DamagedBranch, To: []byte("k5"), Keys: 1}, `it held a branch of the top bucket: 1 key is lost, up to, without, "k5"`},
		{Damage{Kind: DamagedTree, Bucket: [][]byte{[]byte("a")}, Keys: -1}, `it held a branch or leaf of bucket "a": all its keys are lost`},
		{Damage{Kind: DamagedLeaf, Bucket: [][]byte{[]byte("a")}, From: []byte{0xff}, Keys: -1},
			`it held a leaf of bucket "a": keys are lost, from "\xff"`},
		{Damage{Kind: DamagedKey, Bucket: [][]byte{[]byte("a")}, From: long, Keys: 1},
			`it held a long key of bucket "a": one key is lost, that begins with "` + strings.Repeat("x", 64) + `"…`},
		{Damage{Kind: DamagedValue, Bucket: [][]byte{[]byte("a")}, From: []byte("k"), Keys: 1}, `it held a long value of bucket "a": that of key "k" is lost`},
		{Damage{Kind: DamagedSeparator, Bucket: [][]byte{[]byte("a")}, From: []byte("k")},
			`it held a long separator of bucket "a": no key is lost, but some cannot be found, from "k"`},
		{Damage{Kind: DamagedLeaf, Bucket: [][]byte{[]byte("a")}}, `it held a leaf of bucket "a": no key is lost`},
		{Damage{Kind: DamagedMap}, `it held a part of the free map: no key is lost, but the store cannot be written safely`},
		{Damage{Kind: DamagedMeta}, `it held a meta page`},
		{Damage{Kind: DamagedLog, Keys: -1}, `it held a part of the redo log: what transactions from there on have done is lost`},
	} {
		c.d.Page, c.d.Err = 7, cause
		if got := c.d.Error(); got != "database is corrupt: page 7: checksum does not match; "+c.want {
			t.Errorf("%s\nwant …; %s", got, c.want)
		}
		if !errors.Is(&c.d, ErrCorrupt) {
			t.Error("does not match ErrCorrupt")
		}
	}
	hex := Damage{Kind: DamagedLeaf, Bucket: [][]byte{[]byte("a")}, Keys: 2, Err: cause, key: HexKVStringer().KeyToString}
	if want := "bucket 61: 2 keys"; !strings.Contains(fmt.Sprint(&hex), want) {
		t.Errorf("%v, want %s", &hex, want)
	}
}
