package alder_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder"
)

// manyReaders is a store without a disk, with readers that each have a snapshot of their own, and with pages between each two snapshots that only
// wait for them.
type manyReaders struct {
	db      *alder.DB
	rng     *rand.Rand
	readers []*alder.Tx
	version uint64
}

const manyReadersKeys = 50_000

func newManyReaders(b *testing.B, n int) *manyReaders {
	db, err := alder.OpenMemory(nil)
	require.NoError(b, err)
	m := &manyReaders{db: db, rng: rand.New(rand.NewPCG(1, 9))}
	m.put(b, manyReadersKeys)
	for range n {
		m.begin(b)
		m.put(b, 20)
	}
	b.Cleanup(func() {
		for _, tx := range m.readers {
			require.NoError(b, tx.Rollback())
		}
		require.NoError(b, db.Close())
	})
	return m
}

func (m *manyReaders) begin(b *testing.B) {
	tx, err := m.db.Begin(false)
	require.NoError(b, err)
	m.readers = append(m.readers, tx)
}

// put is a transaction that rewrites n keys at random places, or all in order.
func (m *manyReaders) put(b *testing.B, n int) {
	m.version++
	require.NoError(b, m.db.Update(func(tx *alder.Tx) error {
		bucket, err := tx.CreateBucketIfNotExists([]byte("b"))
		if err != nil {
			return err
		}
		var key [8]byte
		value := make([]byte, 200)
		binary.BigEndian.PutUint64(value, m.version)
		for i := range n {
			k := uint64(i)
			if n < manyReadersKeys {
				k = m.rng.Uint64N(manyReadersKeys)
			}
			binary.BigEndian.PutUint64(key[:], k)
			if err := bucket.Put(key[:], value); err != nil {
				return err
			}
		}
		return nil
	}))
}

// BenchmarkReaders measures, beside so many open readers, a transaction that puts one key, the begin and end of a reader, and both beside a change
// of readers: the oldest ends, or the newest, or one in the middle, and another begins.
func BenchmarkReaders(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000} {
		m := newManyReaders(b, n)
		pages := m.db.Stats().PendingPageN
		run := func(name string, fn func(b *testing.B)) {
			b.Run(fmt.Sprintf("readers=%d/%s", n, name), func(b *testing.B) {
				for b.Loop() {
					fn(b)
				}
				b.ReportMetric(float64(pages), "pending")
			})
		}
		run("commit", func(b *testing.B) { m.put(b, 1) })
		run("read", func(b *testing.B) {
			tx, err := m.db.Begin(false)
			require.NoError(b, err)
			require.NoError(b, tx.Rollback())
		})
		for _, change := range []struct {
			name string
			at   func() int
		}{
			{"oldest", func() int { return 0 }},
			{"newest", func() int { return len(m.readers) - 1 }},
			{"any", func() int { return m.rng.IntN(len(m.readers)) }},
		} {
			run("change="+change.name, func(b *testing.B) {
				i := change.at()
				require.NoError(b, m.readers[i].Rollback())
				m.readers = append(m.readers[:i], m.readers[i+1:]...)
				m.put(b, 1)
				m.begin(b)
			})
		}
	}
}
