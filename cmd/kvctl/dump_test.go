package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/alderdb/alder"
	"github.com/alderdb/alder/internal/kvformat"
)

// Ensures that dump and load make an equal store of any store, in a random format: random trees of buckets, some of them
// empty, with sequence numbers, and keys and values of any bytes.
func TestDump_LoadGivesTheSameStore(t *testing.T) {
	dir := t.TempDir()
	stores := 0
	rapid.Check(t, func(t *rapid.T) {
		db, err := alder.OpenMemory(nil)
		require.NoError(t, err)
		defer db.Close()
		require.NoError(t, db.Update(func(tx *alder.Tx) error { return fill(t, topLevel(tx), 0) }))
		format := rapid.SampledFrom(kvformat.Formats()).Draw(t, "format")
		stores++
		path := filepath.Join(dir, fmt.Sprint(stores))
		text := dumpText(t, db, format)
		loadText(t, path, format, text)
		require.Equal(t, contents(t, db), contentsOfFile(t, path), "%s: %q", format, text)
		require.NoError(t, os.Remove(path))
	})
}

// fill puts random buckets, and keys if b is not the top level, into b.
func fill(t *rapid.T, b *alder.Bucket, depth int) error {
	name := rapid.OneOf(rapid.SliceOfN(rapid.Byte(), 1, 4), rapid.Map(rapid.StringMatching(`[a-c/\\"\t\n,=]{1,3}`), func(s string) []byte { return []byte(s) }))
	names := rapid.SliceOfNDistinct(name, 0, 4, func(k []byte) string { return string(k) }).Draw(t, "names")
	for _, name := range names {
		if depth > 0 && (depth == 3 || rapid.Bool().Draw(t, "key")) {
			if err := b.Put(name, rapid.SliceOfN(rapid.Byte(), 0, 8).Draw(t, "value")); err != nil {
				return err
			}
			continue
		}
		inner, err := b.CreateBucket(name)
		if err != nil {
			return err
		}
		if rapid.Bool().Draw(t, "sequence") {
			if err := inner.SetSequence(rapid.Uint64().Draw(t, "sequence number")); err != nil {
				return err
			}
		}
		if err := fill(t, inner, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func dumpText(t *rapid.T, db *alder.DB, format string) []byte {
	var text bytes.Buffer
	w, err := kvformat.NewWriter(format, &text, kvformat.Options{})
	require.NoError(t, err)
	require.NoError(t, db.View(func(tx *alder.Tx) error {
		d := &dumper{ctx: context.Background(), writer: w}
		return d.dump(topLevel(tx), nil, true)
	}))
	require.NoError(t, w.Close())
	return text.Bytes()
}

func loadText(t *rapid.T, path, format string, text []byte) {
	in := path + ".text"
	require.NoError(t, os.WriteFile(in, text, 0o600))
	defer os.Remove(in)
	l := &loadCommand{
		cli: &cli{quiet: true}, file: in, format: format,
		limits: txLimits{bytes: defaultTxSize, records: 3}, store: storeOptions{create: true},
	}
	require.NoError(t, l.run(context.Background(), path, nil))
}

// contents is everything in a store: paths of keys with their values, paths of buckets with their sequence numbers.
func contents(t *rapid.T, db *alder.DB) map[string]string {
	all := map[string]string{}
	var walk func(b *alder.Bucket, path string) error
	walk = func(b *alder.Bucket, path string) error {
		for k, v := range b.All() {
			at := fmt.Sprintf("%s/%x", path, k)
			if v != nil {
				all[at] = fmt.Sprintf("value %x", v)
				continue
			}
			inner := b.Bucket(k)
			all[at] = fmt.Sprintf("sequence %d", inner.Sequence())
			if err := walk(inner, at); err != nil {
				return err
			}
		}
		return nil
	}
	require.NoError(t, db.View(func(tx *alder.Tx) error {
		for err := range tx.Check() {
			require.NoError(t, err)
		}
		return walk(topLevel(tx), "")
	}))
	return all
}

func contentsOfFile(t *rapid.T, path string) map[string]string {
	db, err := alder.Open(path, 0, &alder.Options{ReadOnly: true})
	require.NoError(t, err)
	defer db.Close()
	return contents(t, db)
}
