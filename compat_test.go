package alder_test

// A program for bbolt becomes one for alder by changing an import. First the compiler holds the names and
// signatures; then a program as one would write it for bbolt, with the ways that bbolt's documentation
// teaches, runs and is checked.

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder"
)

// Functions and methods, with the signatures of bbolt v1.5.
var (
	_ func(string, os.FileMode, *alder.Options) (*alder.DB, error) = alder.Open
	_ func(dst, src *alder.DB, txMaxSize int64) error              = alder.Compact
	_ func() alder.KVStringer                                      = alder.HexKVStringer
	_ func(alder.KVStringer) alder.CheckOption                     = alder.WithKVStringer
	_ func(uint64) alder.CheckOption                               = alder.WithPageId
	_ func(*alder.Options) string                                  = (*alder.Options).String

	_ func(*alder.DB, func(*alder.Tx) error) error       = (*alder.DB).Batch
	_ func(*alder.DB, bool) (*alder.Tx, error)           = (*alder.DB).Begin
	_ func(*alder.DB) error                              = (*alder.DB).Close
	_ func(*alder.DB) string                             = (*alder.DB).GoString
	_ func(*alder.DB) *alder.Info                        = (*alder.DB).Info
	_ func(*alder.DB) bool                               = (*alder.DB).IsReadOnly
	_ func(*alder.DB) string                             = (*alder.DB).Path
	_ func(*alder.DB) alder.Stats                        = (*alder.DB).Stats
	_ func(*alder.DB) string                             = (*alder.DB).String
	_ func(*alder.DB) error                              = (*alder.DB).Sync
	_ func(*alder.DB, func(*alder.Tx) error) error       = (*alder.DB).Update
	_ func(*alder.DB, func(*alder.Tx) error) error       = (*alder.DB).View
	_ func(*alder.Stats, *alder.Stats) alder.Stats       = (*alder.Stats).Sub
	_ func(*alder.BucketStats, alder.BucketStats)        = (*alder.BucketStats).Add
	_ func(*alder.TxStats, *alder.TxStats) alder.TxStats = (*alder.TxStats).Sub

	_ func(*alder.Tx, []byte) *alder.Bucket                       = (*alder.Tx).Bucket
	_ func(*alder.Tx) error                                       = (*alder.Tx).Commit
	_ func(*alder.Tx, io.Writer) error                            = (*alder.Tx).Copy
	_ func(*alder.Tx, string, os.FileMode) error                  = (*alder.Tx).CopyFile
	_ func(*alder.Tx, []byte) (*alder.Bucket, error)              = (*alder.Tx).CreateBucket
	_ func(*alder.Tx, []byte) (*alder.Bucket, error)              = (*alder.Tx).CreateBucketIfNotExists
	_ func(*alder.Tx) *alder.Cursor                               = (*alder.Tx).Cursor
	_ func(*alder.Tx) *alder.DB                                   = (*alder.Tx).DB
	_ func(*alder.Tx, []byte) error                               = (*alder.Tx).DeleteBucket
	_ func(*alder.Tx, func([]byte, *alder.Bucket) error) error    = (*alder.Tx).ForEach
	_ func(*alder.Tx) int                                         = (*alder.Tx).ID
	_ func(*alder.Tx) alder.BucketStructure                       = (*alder.Tx).Inspect
	_ func(*alder.Tx, []byte, *alder.Bucket, *alder.Bucket) error = (*alder.Tx).MoveBucket
	_ func(*alder.Tx, func())                                     = (*alder.Tx).OnCommit
	_ func(*alder.Tx) error                                       = (*alder.Tx).Rollback
	_ func(*alder.Tx) int64                                       = (*alder.Tx).Size
	_ func(*alder.Tx) alder.TxStats                               = (*alder.Tx).Stats
	_ func(*alder.Tx) bool                                        = (*alder.Tx).Writable
	_ func(*alder.Tx, io.Writer) (int64, error)                   = (*alder.Tx).WriteTo

	_ func(*alder.Bucket, []byte) *alder.Bucket          = (*alder.Bucket).Bucket
	_ func(*alder.Bucket, []byte) (*alder.Bucket, error) = (*alder.Bucket).CreateBucket
	_ func(*alder.Bucket, []byte) (*alder.Bucket, error) = (*alder.Bucket).CreateBucketIfNotExists
	_ func(*alder.Bucket) *alder.Cursor                  = (*alder.Bucket).Cursor
	_ func(*alder.Bucket, []byte) error                  = (*alder.Bucket).Delete
	_ func(*alder.Bucket, []byte) error                  = (*alder.Bucket).DeleteBucket
	_ func(*alder.Bucket, func(k, v []byte) error) error = (*alder.Bucket).ForEach
	_ func(*alder.Bucket, func(k []byte) error) error    = (*alder.Bucket).ForEachBucket
	_ func(*alder.Bucket, []byte) []byte                 = (*alder.Bucket).Get
	_ func(*alder.Bucket) alder.BucketStructure          = (*alder.Bucket).Inspect
	_ func(*alder.Bucket, []byte, *alder.Bucket) error   = (*alder.Bucket).MoveBucket
	_ func(*alder.Bucket) (uint64, error)                = (*alder.Bucket).NextSequence
	_ func(*alder.Bucket, []byte, []byte) error          = (*alder.Bucket).Put
	_ func(*alder.Bucket) uint64                         = (*alder.Bucket).Sequence
	_ func(*alder.Bucket, uint64) error                  = (*alder.Bucket).SetSequence
	_ func(*alder.Bucket) alder.BucketStats              = (*alder.Bucket).Stats
	_ func(*alder.Bucket) *alder.Tx                      = (*alder.Bucket).Tx
	_ func(*alder.Bucket) bool                           = (*alder.Bucket).Writable

	_ func(*alder.Cursor) *alder.Bucket            = (*alder.Cursor).Bucket
	_ func(*alder.Cursor) error                    = (*alder.Cursor).Delete
	_ func(*alder.Cursor) ([]byte, []byte)         = (*alder.Cursor).First
	_ func(*alder.Cursor) ([]byte, []byte)         = (*alder.Cursor).Last
	_ func(*alder.Cursor) ([]byte, []byte)         = (*alder.Cursor).Next
	_ func(*alder.Cursor) ([]byte, []byte)         = (*alder.Cursor).Prev
	_ func(*alder.Cursor, []byte) ([]byte, []byte) = (*alder.Cursor).Seek
)

// Types, their fields and constants.
var (
	_ = alder.Options{
		Timeout: time.Second, NoGrowSync: true, NoFreelistSync: true, PreLoadFreelist: true,
		FreelistType: alder.FreelistMapType, ReadOnly: true, MmapFlags: 0, InitialMmapSize: 0, PageSize: 4096,
		MaxSize: 0, NoSync: true, OpenFile: os.OpenFile, Mlock: false, NoStatistics: true, Logger: nil,
	}
	_ = alder.DB{
		StrictMode: true, NoSync: true, NoFreelistSync: true, FreelistType: alder.FreelistArrayType, NoGrowSync: true,
		PreLoadFreelist: true, MmapFlags: 0, MaxBatchSize: 1, MaxBatchDelay: 1, AllocSize: 1, MaxSize: 1, Mlock: false,
	}
	_ = alder.Tx{WriteFlag: 0}
	_ = alder.Bucket{FillPercent: alder.DefaultFillPercent}
	_ = alder.Info{Data: 0, PageSize: 0}
	_ = alder.Stats{TxStats: alder.TxStats{}, FreePageN: 0, PendingPageN: 0, FreeAlloc: 0, FreelistInuse: 0, TxN: 0, OpenTxN: 0}
	_ = alder.BucketStats{
		BranchPageN: 0, BranchOverflowN: 0, LeafPageN: 0, LeafOverflowN: 0, KeyN: 0, Depth: 0, BranchAlloc: 0,
		BranchInuse: 0, LeafAlloc: 0, LeafInuse: 0, BucketN: 0, InlineBucketN: 0, InlineBucketInuse: 0,
	}
	_ = alder.BucketStructure{Name: "", KeyN: 0, Children: []alder.BucketStructure{}}

	_ alder.FreelistType = alder.FreelistArrayType
	_ *alder.Options     = alder.DefaultOptions

	_ [alder.MaxKeySize]struct{}   = [32768]struct{}{}
	_ [alder.MaxValueSize]struct{} = [1<<31 - 2]struct{}{}
	_ [2]struct{}                  = [alder.DefaultFillPercent * 4]struct{}{}
)

// Ensures that every error that a program for bbolt may compare with has its text.
func TestCompat_Errors(t *testing.T) {
	for err, text := range map[error]string{
		alder.ErrDatabaseNotOpen:    "database not open",
		alder.ErrInvalid:            "invalid database",
		alder.ErrInvalidMapping:     "database isn't correctly mapped",
		alder.ErrVersionMismatch:    "version mismatch",
		alder.ErrChecksum:           "checksum error",
		alder.ErrTimeout:            "timeout",
		alder.ErrTxNotWritable:      "tx not writable",
		alder.ErrTxClosed:           "tx closed",
		alder.ErrDatabaseReadOnly:   "database is in read-only mode",
		alder.ErrFreePagesNotLoaded: "free pages are not pre-loaded",
		alder.ErrBucketNotFound:     "bucket not found",
		alder.ErrBucketExists:       "bucket already exists",
		alder.ErrBucketNameRequired: "bucket name required",
		alder.ErrKeyRequired:        "key required",
		alder.ErrKeyTooLarge:        "key too large",
		alder.ErrValueTooLarge:      "value too large",
		alder.ErrMaxSizeReached:     "database reached maximum size",
		alder.ErrIncompatibleValue:  "incompatible value",
		alder.ErrSameBuckets:        "the source and target are the same bucket",
		alder.ErrDifferentDB:        "the source and target buckets are in different database files",
	} {
		require.EqualError(t, err, text)
	}
}

// blog is a program that keeps users, their posts, and indexes of them.
type blog struct{ db *alder.DB }

type post struct {
	ID     uint64
	Author string
	Time   time.Time
	Text   string
}

// itob returns an 8-byte big endian representation of v, so that keys sort by number.
func itob(v uint64) []byte {
	b := make([]byte, 8)
	binary.BigEndian.PutUint64(b, v)
	return b
}

func openBlog(file string) (*blog, error) {
	db, err := alder.Open(file, 0o600, &alder.Options{Timeout: 5 * time.Second, FreelistType: alder.FreelistMapType})
	if err != nil {
		return nil, err
	}
	return &blog{db}, db.Update(func(tx *alder.Tx) error {
		for _, name := range []string{"posts", "by-time", "users", "archive"} {
			if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
				return fmt.Errorf("create bucket: %s", err)
			}
		}
		return nil
	})
}

// add stores a post under the next number, in the index by time, and in its author's nested bucket.
func (b *blog) add(tx *alder.Tx, p *post) error {
	posts := tx.Bucket([]byte("posts"))
	p.ID, _ = posts.NextSequence()
	buf, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if err := posts.Put(itob(p.ID), buf); err != nil {
		return err
	}
	if err := tx.Bucket([]byte("by-time")).Put(append([]byte(p.Time.Format(time.RFC3339)), itob(p.ID)...), itob(p.ID)); err != nil {
		return err
	}
	own, err := tx.Bucket([]byte("users")).CreateBucketIfNotExists([]byte(p.Author))
	if err != nil {
		return err
	}
	return own.Put(itob(p.ID), nil)
}

// between returns the posts of a span of time, which is scanned with Seek and bytes.Compare.
func (b *blog) between(from, to time.Time) (posts []post, err error) {
	err = b.db.View(func(tx *alder.Tx) error {
		c := tx.Bucket([]byte("by-time")).Cursor()
		limit := []byte(to.Format(time.RFC3339))
		for k, id := c.Seek([]byte(from.Format(time.RFC3339))); k != nil && bytes.Compare(k, limit) <= 0; k, id = c.Next() {
			var p post
			if err := json.Unmarshal(tx.Bucket([]byte("posts")).Get(id), &p); err != nil {
				return err
			}
			posts = append(posts, p)
		}
		return nil
	})
	return posts, err
}

// latest returns an author's last posts, walked backward.
func (b *blog) latest(author string, n int) (ids []uint64, err error) {
	err = b.db.View(func(tx *alder.Tx) error {
		own := tx.Bucket([]byte("users")).Bucket([]byte(author))
		if own == nil {
			return fmt.Errorf("no user %q", author)
		}
		c := own.Cursor()
		for k, _ := c.Last(); k != nil && len(ids) < n; k, _ = c.Prev() {
			ids = append(ids, binary.BigEndian.Uint64(k))
		}
		return nil
	})
	return ids, err
}

// remove deletes all of an author, walking with Seek to what follows each deleted key.
func (b *blog) remove(author string) error {
	return b.db.Update(func(tx *alder.Tx) error {
		own := tx.Bucket([]byte("users")).Bucket([]byte(author))
		if own == nil {
			return alder.ErrBucketNotFound
		}
		if err := own.ForEach(func(id, _ []byte) error { return tx.Bucket([]byte("posts")).Delete(id) }); err != nil {
			return err
		}
		c := tx.Bucket([]byte("by-time")).Cursor()
		for k, id := c.First(); k != nil; {
			if tx.Bucket([]byte("posts")).Get(id) != nil {
				k, id = c.Next()
				continue
			}
			gone := bytes.Clone(k)
			if err := c.Delete(); err != nil {
				return err
			}
			k, id = c.Seek(gone)
		}
		return tx.Bucket([]byte("users")).DeleteBucket([]byte(author))
	})
}

// ServeHTTP streams a backup, with its length announced, as bbolt's documentation shows.
func (b *blog) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	err := b.db.View(func(tx *alder.Tx) error {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.Itoa(int(tx.Size())))
		_, err := tx.WriteTo(w)
		return err
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// Ensures that a program written for bbolt works.
func TestCompat_Program(t *testing.T) {
	dir := tempDir(t)
	b, err := openBlog(filepath.Join(dir, "blog.db"))
	require.NoError(t, err)
	start := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	stats := b.db.Stats()

	// Many goroutines post at once through Batch.
	var wg sync.WaitGroup
	authors := []string{"ann", "bob", "cid"}
	const n = 90
	for i := range n {
		wg.Go(func() {
			p := post{Author: authors[i%3], Time: start.Add(time.Duration(i) * time.Hour), Text: fmt.Sprint("post ", i)}
			if err := b.db.Batch(func(tx *alder.Tx) error { return b.add(tx, &p) }); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	after := b.db.Stats()
	diff := after.Sub(&stats)
	require.NotZero(t, diff.TxStats.GetWrite())

	posts, err := b.between(start.Add(10*time.Hour), start.Add(19*time.Hour))
	require.NoError(t, err)
	require.Len(t, posts, 9, "the limit has no number behind it, so the last hour is outside")
	for i, p := range posts {
		require.Equal(t, fmt.Sprint("post ", i+10), p.Text)
	}
	ids, err := b.latest("bob", 4)
	require.NoError(t, err)
	require.Len(t, ids, 4)
	require.Greater(t, ids[0], ids[3])

	require.NoError(t, b.remove("cid"))
	require.ErrorIs(t, b.remove("cid"), alder.ErrBucketNotFound)
	posts, err = b.between(start, start.Add(n*time.Hour))
	require.NoError(t, err)
	require.Len(t, posts, 60)
	for _, p := range posts {
		require.NotEqual(t, "cid", p.Author)
	}

	// A manual transaction, with a bucket that moves.
	tx, err := b.db.Begin(true)
	require.NoError(t, err)
	moved := false
	tx.OnCommit(func() { moved = true })
	require.NoError(t, tx.MoveBucket([]byte("ann"), tx.Bucket([]byte("users")), tx.Bucket([]byte("archive"))))
	require.NoError(t, tx.Commit())
	require.ErrorIs(t, tx.Rollback(), alder.ErrTxClosed)
	require.True(t, moved)
	_, err = b.latest("ann", 1)
	require.EqualError(t, err, `no user "ann"`)

	// A backup over HTTP is a store with the same content.
	server := httptest.NewServer(b)
	defer server.Close()
	response, err := http.Get(server.URL)
	require.NoError(t, err)
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.EqualValues(t, response.ContentLength, len(body))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "backup.db"), body, 0o600))
	backup, err := openBlog(filepath.Join(dir, "backup.db"))
	require.NoError(t, err)
	require.Equal(t, fingerprint(t, b.db), fingerprint(t, backup.db))
	require.NoError(t, backup.db.Close())

	// A compacted copy has the same content, too, and the numbers go on.
	compacted, err := alder.Open(filepath.Join(dir, "compact.db"), 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, alder.Compact(compacted, b.db, 2000))
	require.Equal(t, fingerprint(t, b.db), fingerprint(t, compacted))
	require.NoError(t, compacted.Update(func(tx *alder.Tx) error {
		next, err := tx.Bucket([]byte("posts")).NextSequence()
		require.GreaterOrEqual(t, next, uint64(n+1))
		return errors.Join(err, checkTx(tx))
	}))
	require.NoError(t, compacted.Close())

	path := b.db.Path()
	require.NoError(t, b.db.Close())
	reader, err := alder.Open(path, 0o400, &alder.Options{ReadOnly: true})
	require.NoError(t, err)
	require.NoError(t, reader.View(func(tx *alder.Tx) error {
		count := 0
		return errors.Join(tx.ForEach(func(_ []byte, b *alder.Bucket) error {
			return b.ForEach(func(_, _ []byte) error { count++; return nil })
		}), func() error {
			require.Equal(t, 60+60+1+1, count)
			return nil
		}())
	}))
	require.NoError(t, reader.Close())
}

// Ensures that a copy may be limited to small transactions and goes into an empty store only.
func TestCompact(t *testing.T) {
	eachForm(t, func(t *testing.T, src *testDB) {
		inBucket(t, src, func(b *alder.Bucket) {
			fill(t, b, 500, 100)
			require.NoError(t, b.Put([]byte("large"), filled(100_000, 1)))
			require.NoError(t, b.Put([]byte("nothing"), []byte{}))
			require.NoError(t, b.SetSequence(7))
			sub := mustCreate(t, mustCreate(t, b, "sub"), "subsub")
			fill(t, sub, 300, 20)
			require.NoError(t, sub.SetSequence(8))
		})
		src.update(func(tx *alder.Tx) {
			_, err := tx.CreateBucket([]byte("empty"))
			require.NoError(t, err)
		})
		want := fingerprint(t, src.DB)
		for _, limit := range []int64{0, 1, 5000, 1 << 40} {
			dst := openTemp(t, withNoSync()) // one commit per key with the smallest limit
			require.NoError(t, alder.Compact(dst.DB, src.DB, limit))
			require.Equal(t, want, fingerprint(t, dst.DB), "limit %d", limit)
			require.ErrorIs(t, alder.Compact(dst.DB, src.DB, limit), alder.ErrBucketExists, "into a store that is not empty")
		}
		require.Equal(t, want, fingerprint(t, src.DB))
	})
}

// Ensures that a copy says how far it is, ends with its context, and leaves a sound store behind when it does.
// Beyond bbolt.
func TestCompactContext(t *testing.T) {
	eachForm(t, func(t *testing.T, src *testDB) {
		total := int64(0)
		src.update(func(tx *alder.Tx) {
			for _, name := range []string{"a", "b"} {
				b, err := tx.CreateBucket([]byte(name))
				require.NoError(t, err)
				fill(t, b, 2000, 100)
				total += 2000 * int64(len(key(0))+100)
			}
		})
		dst := openMemory(t)
		var keys, bytes int64
		require.NoError(t, alder.CompactContext(t.Context(), dst.DB, src.DB, 50_000, func(k, b int64) {
			require.GreaterOrEqual(t, k, keys)
			require.GreaterOrEqual(t, b, bytes)
			keys, bytes = k, b
		}))
		require.GreaterOrEqual(t, keys, int64(2000), "progress is seldom told")
		require.GreaterOrEqual(t, bytes, total/2)
		require.Equal(t, fingerprint(t, src.DB), fingerprint(t, dst.DB))

		ctx, cancel := context.WithCancel(t.Context())
		cut := openMemory(t)
		err := alder.CompactContext(ctx, cut.DB, src.DB, 10_000, func(k, _ int64) {
			if k > 1000 {
				cancel()
			}
		})
		cancel()
		require.ErrorIs(t, err, context.Canceled)
		cut.check()
		require.ErrorIs(t, alder.CompactContext(ctx, openMemory(t).DB, src.DB, 0, nil), context.Canceled)
		src.put("a", "after", "1")
	})
}
