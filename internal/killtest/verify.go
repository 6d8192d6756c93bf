package killtest

import (
	"errors"
	"fmt"
	"slices"

	"github.com/alderdb/alder"
)

// Verifier knows what a store must hold. It is told of every acknowledgement, and looks at the store after each crash.
type Verifier struct {
	Config Config

	// Lossy says that acknowledgements may have been lost on the way, and that writers may have gone on after crashes that nobody
	// looked at. Then there may be more in the store than was acknowledged. It goes with full durability only.
	Lossy bool

	// Progress, if it is not nil, is called now and then with the transactions that were worked out, and their number.
	Progress func(done, total uint64)

	content []*bucket // of each goroutine
	number  []uint64  // the last transaction in it
	acked   []uint64  // the last acknowledged one
	order   uint64    // transactions in the store when it was last looked at
	since   []Ack     // acknowledged since then, unless Lossy
	last    uint64    // the largest order that was acknowledged and not lazy, or found
	total   uint64
}

// NewVerifier returns a verifier of a store that does not exist yet.
func NewVerifier(c Config) *Verifier {
	v := &Verifier{Config: c, number: make([]uint64, c.Goroutines), acked: make([]uint64, c.Goroutines)}
	for range c.Goroutines {
		v.content = append(v.content, newBucket())
	}
	return v
}

// Acked takes an acknowledgement. Its error is one of the writer: it has gone on from a state that was not the one in the store.
func (v *Verifier) Acked(a Ack) error {
	if a.Goroutine < 0 || a.Goroutine >= v.Config.Goroutines {
		return fmt.Errorf("acknowledgement of goroutine %d, there are %d", a.Goroutine, v.Config.Goroutines)
	}
	last := max(v.acked[a.Goroutine], v.number[a.Goroutine])
	if a.Number <= v.acked[a.Goroutine] || !v.Lossy && a.Number != last+1 {
		return fmt.Errorf("goroutine %d has acknowledged transaction %d after %d", a.Goroutine, a.Number, last)
	}
	v.acked[a.Goroutine] = a.Number
	if !a.Lazy {
		v.last = max(v.last, a.Order)
	}
	if !v.Lossy {
		v.since = append(v.since, a)
	} else if a.Lazy {
		return fmt.Errorf("goroutine %d has acknowledged a lazy transaction, which this verifier does not know", a.Goroutine)
	}
	v.total++
	return nil
}

// Transactions is how many were acknowledged.
func (v *Verifier) Transactions() uint64 { return v.total }

// Untouched reports whether nothing was ever acknowledged or found: there may be no store yet.
func (v *Verifier) Untouched() bool { return v.last == 0 && len(v.since) == 0 }

// Found is how many transactions the store had when it was last looked at.
func (v *Verifier) Found() uint64 { return v.order }

// Verify looks at the store after a crash, and returns how many keys were verified.
func (v *Verifier) Verify(db *alder.DB) (keys int64, err error) {
	err = db.View(func(tx *alder.Tx) (err error) {
		keys, err = v.verify(tx)
		return err
	})
	return keys, err
}

func (v *Verifier) verify(tx *alder.Tx) (keys int64, err error) {
	if err := v.names(tx); err != nil {
		return 0, err
	}
	numbers, err := numbersOf(tx, v.Config.Goroutines)
	if err != nil {
		return 0, err
	}
	if err := v.prefix(numbers); err != nil {
		return 0, err
	}
	v.advance(numbers)
	for g, want := range v.content {
		b := tx.Bucket([]byte(bucketOf(g)))
		if b == nil {
			if numbers[g] > 0 {
				return keys, errors.Join(fmt.Errorf("bucket %s is missing, at transaction %d", bucketOf(g), numbers[g]), tx.Err())
			}
			continue
		}
		n, err := want.compare(b, []string{bucketOf(g)})
		if keys += n; err != nil {
			return keys, fmt.Errorf("at transaction %d of goroutine %d: %w", numbers[g], g, err)
		}
	}
	for err := range tx.Check() {
		return keys, fmt.Errorf("check: %w", err)
	}
	return keys, nil
}

// names looks for buckets that nobody has made, and for another configuration.
func (v *Verifier) names(tx *alder.Tx) error {
	c, err := StoredConfig(tx)
	if err != nil {
		return err
	}
	if c != nil && *c != v.Config {
		return fmt.Errorf("the store was made with %+v, not with %+v", *c, v.Config)
	}
	known := map[string]bool{configBucket: true, numbersBucket: true}
	for g := range v.Config.Goroutines {
		known[bucketOf(g)] = true
	}
	return tx.ForEach(func(name []byte, _ *alder.Bucket) error {
		if !known[string(name)] {
			return fmt.Errorf("bucket %.60q at the top, which nobody has made", name)
		}
		return nil
	})
}

// prefix makes sure that no transaction is missing that must be there, and that of two the earlier is not missing alone.
func (v *Verifier) prefix(numbers []uint64) error {
	least := slices.Clone(v.number)
	if v.Lossy {
		copy(least, v.acked)
	}
	for _, a := range v.since {
		if a.Order <= v.last { // durable, at the latest with the last one that was not lazy
			least[a.Goroutine] = max(least[a.Goroutine], a.Number)
		}
	}
	var order uint64
	for g, n := range numbers {
		order += n
		if n < least[g] {
			return fmt.Errorf("goroutine %d: transaction %d was acknowledged, the store has those up to %d", g, least[g], n)
		}
		if acked := max(v.acked[g], v.number[g]); !v.Lossy && n > acked+1 {
			return fmt.Errorf("goroutine %d: the store has transaction %d, and only those up to %d were acknowledged", g, n, acked)
		}
	}
	// order counts the transactions that are there; they must be the first ones.
	for _, a := range v.since {
		if there := a.Number <= numbers[a.Goroutine]; there != (a.Order <= order) {
			return fmt.Errorf("the store has %d transactions, but not the first ones: transaction %d of goroutine %d was the %dth (there: %v)",
				order, a.Number, a.Goroutine, a.Order, there)
		}
	}
	if v.last > order {
		return fmt.Errorf("the store has %d transactions, the %dth was acknowledged", order, v.last)
	}
	v.order, v.last = order, order
	return nil
}

// advance works out what the goroutines' buckets hold after these transactions, and forgets what was lost.
func (v *Verifier) advance(numbers []uint64) {
	done, total := uint64(0), uint64(0)
	for g, n := range numbers {
		total += n - v.number[g]
	}
	for g, n := range numbers {
		for v.number[g] < n {
			v.number[g]++
			for _, o := range transaction(v.Config, g, v.number[g]) {
				v.content[g].do(o)
			}
			if done++; v.Progress != nil && done%1024 == 0 {
				v.Progress(done, total)
			}
		}
		v.acked[g] = n
	}
	v.since = v.since[:0]
}
