package alder

import (
	"bytes"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// contentOf is all that a transaction sees, as text.
func contentOf(t *testing.T, tx *Tx) string {
	t.Helper()
	c := newCollector()
	require.NoError(t, walkTx(tx, c))
	var w strings.Builder
	c.path[0].describe(&w, "")
	return w.String()
}

// Ensures that an incremental backup goes on from a backup that was made before a kill or a power cut, through several of them, if the crash has left the backup's
// transaction, and gives then what the store holds; and that it is refused if the crash has not: a backup of a lazy store may hold what was lost. Random transactions
// with buckets, ranges, moves and shrinks, checkpoints often or never. Between crash and recovery the file may be moved, which changes nothing of that, or copied, and the copy
// goes on by itself: then no backup of the copy is taken for one of the store.
func TestTx_WriteDiff_AcrossCrashes(t *testing.T) {
	seeds := 60
	if testing.Short() {
		seeds = 15
	}
	accepted, refused, apart := 0, 0, 0
	for seed := range uint64(seeds) {
		a, r, p := diffAcrossCrashes(t, seed)
		accepted, refused, apart = accepted+a, refused+r, apart+p
	}
	t.Logf("%d diffs across crashes, %d refused, %d backups of copies refused", accepted, refused, apart)
	require.Greater(t, accepted, 2*seeds)
	require.Greater(t, refused, 0)
	require.Greater(t, apart, seeds/2)
}

// someOps does those of the operations that can be done.
func someOps(tx *Tx, ops []scriptOp) error {
	for _, p := range scriptPaths {
		for i := range p {
			_ = applyOps(tx, []scriptOp{{kind: "bucket", path: p[:i], key: p[i]}})
		}
	}
	for _, o := range ops {
		_ = applyOps(tx, []scriptOp{o}) // the bucket may be gone, or be in the way
	}
	return tx.Err()
}

func diffAcrossCrashes(t *testing.T, seed uint64) (accepted, refused, apart int) {
	rng := rand.New(rand.NewPCG(seed, 15))
	lazy := seed%2 == 0
	logSize := []int{4096, 20_000, 1 << 20}[rng.IntN(3)]
	d := newSimDisk(simConfig{capacity: 4 << 20})
	open := func(d *simDisk) *DB {
		db, err := openStorage(d, &Options{NoSync: lazy, LogSize: logSize, checkpointAge: time.Hour, SyncInterval: time.Hour, longValue: 20_000, NoAutoShrink: true,
			DirtyLimit: []int{0, 16384, 65536}[seed%3]}) // a recovery that needs more collects its puts
		require.NoError(t, err)
		return db
	}
	type backup struct {
		id    SnapshotID
		bytes []byte
		copy  bool // of a copy that goes on by itself
	}
	var backups []backup
	backUp := func(db *DB, copied bool) {
		b := backup{copy: copied}
		var w bytes.Buffer
		require.NoError(t, db.View(func(tx *Tx) error {
			b.id = tx.Snapshot()
			_, err := tx.WriteTo(&w)
			return err
		}))
		b.bytes = w.Bytes()
		backups = append(backups, b)
	}
	style := randomStyle(rng)
	db := open(d)
	for range 5 {
		for range 3 + rng.IntN(25) {
			switch rng.IntN(8) {
			case 0:
				backUp(db, false)
			case 1:
				if rng.IntN(3) == 0 {
					_, err := db.Shrink(t.Context(), 0, nil)
					require.NoError(t, err)
				}
			default:
				require.NoError(t, db.Update(func(tx *Tx) error { return someOps(tx, style.tx(rng)) }))
			}
		}
		crash := uint64(crashKill)
		if rng.IntN(2) == 0 {
			crash = crashRandomPower + rng.Uint64N(1<<30)
		}
		next := d.crash(simCall{}, crash)
		db.pager.stopWork()
		d = next
		switch rng.IntN(4) {
		case 0:
			d.cfg.place = rng.Uint64()
		case 1:
			twin := open(loadSimDisk(simConfig{capacity: 4 << 20, place: rng.Uint64()}, d.image()))
			for range 1 + rng.IntN(4) {
				require.NoError(t, twin.Update(func(tx *Tx) error { return someOps(tx, style.tx(rng)) }))
			}
			backUp(twin, true)
			require.NoError(t, twin.Close())
		}
		db = open(d)
		for range rng.IntN(4) {
			require.NoError(t, db.Update(func(tx *Tx) error { return someOps(tx, style.tx(rng)) }))
		}
		for _, b := range backups {
			var diff bytes.Buffer
			var want string
			var now SnapshotID
			err := db.View(func(tx *Tx) error {
				want, now = contentOf(t, tx), tx.Snapshot()
				_, err := tx.WriteDiff(&diff, b.id)
				return err
			})
			if err != nil {
				require.ErrorIs(t, err, ErrDiffMismatch)
				if b.copy {
					apart++
					continue
				}
				require.True(t, lazy, "seed %d: nothing that a backup of a store in full durability has can be lost: %v", seed, err)
				refused++
				continue
			}
			require.False(t, b.copy, "seed %d: a diff was made for a backup of a copy", seed)
			path := filepath.Join(t.TempDir(), "restored")
			got, err := Restore(path, 0o600, bytes.NewReader(b.bytes), &diff)
			require.NoError(t, err, "seed %d: from %v to %v", seed, b.id, now)
			require.Equal(t, now, got)
			restored, err := Open(path, 0o600, &Options{ReadOnly: true})
			require.NoError(t, err)
			require.NoError(t, restored.View(func(tx *Tx) error {
				require.Equal(t, now, tx.Snapshot())
				require.Equal(t, want, contentOf(t, tx), "seed %d: from %v to %v", seed, b.id, now)
				return nil
			}))
			require.NoError(t, restored.Close())
			if now.Epoch != b.id.Epoch {
				accepted++
			}
		}
		if len(backups) > 6 {
			backups = backups[len(backups)-6:]
		}
	}
	require.NoError(t, db.Close())
	return accepted, refused, apart
}
