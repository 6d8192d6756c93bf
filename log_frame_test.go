package alder

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"
)

// Which frames count: what crashes alone do not show, because several fields of a frame would have to be right by chance at once.

// Ensures that a frame does not count if any one of the things that tie it to its place in its log is another, although its checksum is
// right: the salt, the place in the file, the frame before, the first transaction; nor if only its checksum is wrong.
func TestLog_FrameIdentity(t *testing.T) {
	file := filepath.Join(t.TempDir(), "store.db")
	db := openFileDB(t, file, nil)
	putNumbers(t, db, 0, 8, 100)
	left := killed(t, file)
	image, err := os.ReadFile(left)
	require.NoError(t, err)
	plan := db.pager.log.plan
	last := image[db.pager.offset(plan.id)+plan.off-logBlock:][:logBlock]
	require.EqualValues(t, frameMagic, le.Uint32(last[offFrameMagic:]))
	end := logHeader + int(le.Uint32(last[offFrameLength:]))
	for name, field := range map[string]int{"salt": offFrameSalt, "place": offFramePosition, "frame before": offFramePrevious, "transaction": offFrameFirst, "checksum": offFrameSum} {
		for _, by := range []int64{1, -1, 4096} {
			old := le.Uint64(last[field:])
			le.PutUint64(last[field:], old+uint64(by))
			if field != offFrameSum {
				le.PutUint64(last[offFrameSum:], xxhash.Sum64(last[offFrameMagic:end]))
			}
			require.NoError(t, os.WriteFile(left, image, 0o600))
			again, err := Open(left, 0o600, &Options{ReadOnly: true})
			require.NoError(t, err, "%s %+d", name, by)
			requireNumbers(t, again, 7, 100)
			require.NoError(t, again.Close())
			le.PutUint64(last[field:], old)
			le.PutUint64(last[offFrameSum:], xxhash.Sum64(last[offFrameMagic:end]))
		}
	}
	require.NoError(t, os.WriteFile(left, image, 0o600))
	requireNumbers(t, openFileDB(t, left, &Options{ReadOnly: true}), 8, 100)
}

// Ensures that each log has a salt of its own, also in the same run of the file, so that nobody can write values that look like frames of
// a log to come.
func TestLog_FreshSalt(t *testing.T) {
	file := filepath.Join(t.TempDir(), "store.db")
	salts := map[uint64]bool{}
	for i := range 6 {
		db := openFileDB(t, file, nil)
		putNumbers(t, db, 3*i, 3*i+3, 100)
		salt := db.pager.durable.logSalt
		require.NotZero(t, salt)
		require.NotContains(t, salts, salt)
		salts[salt] = true
		if i%2 == 0 {
			require.NoError(t, db.Close())
		} else {
			file = killed(t, file)
		}
	}
}

// Ensures that a file that is too short for its newest meta is refused, although the older meta asks for less: its pages may have been
// used again.
func TestOpen_ShortForNewestMeta(t *testing.T) {
	file := filepath.Join(t.TempDir(), "store.db")
	db := openFileDB(t, file, nil)
	putNumbers(t, db, 0, 5, 100)
	putNumbers(t, db, 5, 60, 3000)
	older := db.pager.durable.fileLength
	db.pager.checkpointInBackground()
	newest := db.pager.durable.fileLength
	require.Greater(t, newest, older)
	left := killed(t, file)
	for size := newest - 4096; size >= older; size -= 4096 {
		require.NoError(t, os.Truncate(left, size))
		for _, readOnly := range []bool{true, false} {
			_, err := Open(left, 0o600, &Options{ReadOnly: readOnly})
			require.ErrorIs(t, err, ErrCorrupt, "%d of %d bytes", size, newest)
		}
	}
}
