package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/alderdb/alder"
	"github.com/alderdb/alder/internal/kvformat"
	"github.com/alderdb/alder/internal/kvpath"
)

// view opens the store for reading and calls fn with a snapshot of it.
func (c *cli) view(ctx context.Context, path string, fn func(*alder.Tx) error) error {
	db, err := c.openForReading(ctx, path)
	if err != nil {
		return err
	}
	defer db.Close() // nothing was written, so there is nothing that Close could fail to keep
	return inStore(path, db.ViewContext(ctx, fn))
}

// update opens an existing store for writing, unless options say that it may be created, runs fn in one transaction, and
// closes the store.
func (c *cli) update(ctx context.Context, path string, options storeOptions, fn func(*alder.Tx) error) error {
	db, err := c.openForWriting(ctx, path, options)
	if err != nil {
		return err
	}
	if err := db.UpdateContext(ctx, fn); err != nil {
		return inStore(path, errors.Join(err, db.DB.Close()))
	}
	return inStore(path, db.Close())
}

// inStore adds the path of the store to an error that names no file.
func inStore(path string, err error) error {
	var coded *codedError
	var system *fs.PathError
	if err == nil || errors.As(err, &coded) || errors.As(err, &system) || codeOf(err) > exitCorrupt {
		return err
	}
	if text := err.Error(); strings.Contains(text, path) || strings.HasPrefix(text, writingPrefix) {
		return err
	}
	return fmt.Errorf("%s: %w", path, err)
}

func (c *cli) openForReading(ctx context.Context, path string) (*alder.DB, error) {
	db, err := c.open(ctx, path, alder.Options{ReadOnly: true})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, missingStore(path)
	}
	return db, err
}

func missingStore(path string) error {
	return fmt.Errorf("open %s: %w; check the path, or create a store there with kvctl put or kvctl load", path, fs.ErrNotExist)
}

// open opens the store and waits for its lock as long as --timeout says. It waits in short turns, because an interrupt must be
// able to end it.
func (c *cli) open(ctx context.Context, path string, options alder.Options) (*alder.DB, error) {
	const turn = 100 * time.Millisecond
	if path == "" {
		return nil, usageErrorf("DB is empty; name the file of a store")
	}
	start := time.Now()
	for {
		options.Timeout = min(turn, max(0, c.timeout-time.Since(start)))
		db, err := alder.Open(path, newStoreMode, &options)
		var locked *alder.LockError
		if !errors.As(err, &locked) {
			return db, err
		}
		if locked.Waited = time.Since(start); locked.Waited >= c.timeout {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, interruptedErrorf("still waiting: %v", err)
		}
	}
}

const (
	newStoreMode = 0o644 // less the umask

	minPageSize = 4096
	maxPageSize = 65536
)

// storeOptions says how a store is opened for writing.
type storeOptions struct {
	create   bool // a missing file is created
	punch    bool // a shrink gives blocks in the middle back
	pageSize sizeFlag
}

// addPageSizeFlag is for the commands that create a store; standard says what they take for 0.
func (o *storeOptions) addPageSizeFlag(cmd *cobra.Command, standard string) {
	cmd.Flags().Var(&o.pageSize, "page-size", "page size of a new store, 4096 to 65536 (0: "+standard+")")
}

// writtenStore is a store that is open for writing, and the file that it was found in.
type writtenStore struct {
	*alder.DB
	path string
	file os.FileInfo
}

// Close closes the store. It is an error that matches ErrRemoved if its path leads to another file by then, or to none: what was written is in the file that was opened, but
// that is not where anybody will look for it. The store itself finds out only that the file has no name at all. (Windows lets nobody move a file that is open.)
func (s *writtenStore) Close() error {
	if err := s.DB.Close(); err != nil {
		return err
	}
	now, err := os.Stat(s.path)
	what := "another file has its name now"
	switch {
	case err == nil && os.SameFile(s.file, now):
		return nil
	case errors.Is(err, fs.ErrNotExist):
		what = "it was moved away"
	case err != nil:
		what = innermost(err).Error()
	}
	return fmt.Errorf("%w: %s, and where the data went is not known", alder.ErrRemoved, what)
}

func (c *cli) openForWriting(ctx context.Context, path string, options storeOptions) (*writtenStore, error) {
	asked := int(options.pageSize)
	if asked != 0 && (asked < minPageSize || asked > maxPageSize || asked&(asked-1) != 0) {
		return nil, usageErrorf("--page-size %d: want a power of two from %d to %d", asked, minPageSize, maxPageSize)
	}
	fi, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) && !options.create {
		return nil, missingStore(path)
	}
	if err == nil && fi.Size() > 0 {
		asked = 0 // the store knows
	}
	db, err := c.open(ctx, path, alder.Options{PageSize: asked, PunchHoles: options.punch})
	if err != nil {
		return nil, err
	}
	if n := int(options.pageSize); n != 0 && n != db.PageSize() {
		err := usageErrorf("%s: the store has pages of %d bytes; --page-size is for new stores", path, db.PageSize())
		return nil, errors.Join(err, db.Close())
	}
	if fi, err = os.Stat(path); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &writtenStore{db, path, fi}, nil
}

// parseBucket reads the BUCKET argument of a command that needs one.
func parseBucket(text string) ([][]byte, error) {
	if text == "" {
		return nil, usageErrorf("BUCKET is empty; keys live in buckets")
	}
	return parseBucketOrTop(text)
}

// parseBucketOrTop is parseBucket where the empty text stands for the top level of the store.
func parseBucketOrTop(text string) ([][]byte, error) {
	path, err := kvpath.Parse(text)
	if err != nil {
		return nil, &codedError{exitUsage, err}
	}
	return path, nil
}

// parseKey reads the KEY argument.
func parseKey(text string, encoding *encodingFlag) ([]byte, error) {
	key, err := encoding.Decode([]byte(text))
	switch {
	case err != nil:
		return nil, usageErrorf("KEY %s: %w; see --key-format", text, err)
	case len(key) == 0:
		return nil, usageErrorf("KEY is empty; a key has at least one byte")
	case len(key) > alder.MaxKeySize:
		return nil, usageErrorf("KEY has %d bytes; the limit is %d", len(key), alder.MaxKeySize)
	}
	return key, nil
}

// topLevel returns the bucket that holds the top-level buckets.
func topLevel(tx *alder.Tx) *alder.Bucket { return tx.Cursor().Bucket() }

// findBucket returns the bucket at path; the empty path is the top level.
func findBucket(tx *alder.Tx, path [][]byte) (*alder.Bucket, error) {
	bucket := topLevel(tx)
	for i, name := range path {
		inner := bucket.Bucket(name)
		if inner == nil {
			if err := tx.Err(); err != nil {
				return nil, err
			}
			text := kvpath.Format(path[:i+1])
			if bucket.Get(name) != nil {
				return nil, notFoundErrorf("%s: %s is a key, not a bucket", storeName(tx), text)
			}
			return nil, notFoundErrorf("%s: no bucket %s", storeName(tx), text)
		}
		bucket = inner
	}
	return bucket, nil
}

// createBucket is findBucket for a path that is not empty, and creates what is missing.
func createBucket(tx *alder.Tx, path [][]byte) (*alder.Bucket, error) {
	bucket := topLevel(tx)
	for i, name := range path {
		var inner *alder.Bucket
		var err error
		if i == 0 {
			inner, err = tx.CreateBucketIfNotExists(name)
		} else {
			inner, err = bucket.CreateBucketIfNotExists(name)
		}
		switch {
		case errors.Is(err, alder.ErrIncompatibleValue):
			return nil, usageErrorf("%s: %s is a key, not a bucket", storeName(tx), kvpath.Format(path[:i+1]))
		case errors.Is(err, alder.ErrKeyTooLarge):
			return nil, usageErrorf("a bucket name has %d bytes; the limit is %d", len(name), alder.MaxKeySize)
		case err != nil:
			return nil, err
		}
		bucket = inner
	}
	return bucket, nil
}

// storeName is the store in messages.
func storeName(tx *alder.Tx) string { return tx.DB().Path() }

// keyName writes a key of a bucket in a message.
func keyName(path [][]byte, key []byte) string {
	return "key " + string(kvformat.Quoted.Append(nil, key)) + " in bucket " + kvpath.Format(path)
}

// eachBucket calls fn for every bucket directly in b, in order, until fn fails.
func eachBucket(b *alder.Bucket, fn func(name []byte, inner *alder.Bucket) error) error {
	return b.ForEachBucket(func(name []byte) error {
		inner, err := innerBucket(b, name)
		if err != nil {
			return err
		}
		return fn(name, inner)
	})
}

// innerBucket returns a bucket whose name was just seen in b. If it is not there, something could not be read.
func innerBucket(b *alder.Bucket, name []byte) (*alder.Bucket, error) {
	if inner := b.Bucket(name); inner != nil {
		return inner, nil
	}
	if err := b.Tx().Err(); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("bucket %s cannot be opened: %w", kvpath.Format([][]byte{name}), alder.ErrCorrupt)
}

// completeArguments offers bucket paths for the second argument and leaves the first to the shell's file names.
func (c *cli) completeArguments(_ *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		return nil, cobra.ShellCompDirectiveDefault
	case 1:
		return c.completeBuckets(args[0], typed), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// completeBuckets lists the buckets whose paths begin as typed. A store that cannot be read offers nothing.
func (c *cli) completeBuckets(store, typed string) []string {
	const enough = 200
	outer, prefix := splitLastSlash(typed)
	var found []string
	_ = c.view(context.Background(), store, func(tx *alder.Tx) error {
		path, err := kvpath.Parse(outer)
		if err != nil {
			return err
		}
		bucket, err := findBucket(tx, path)
		if err != nil {
			return err
		}
		full := errors.New("enough")
		return bucket.ForEachBucket(func(name []byte) error {
			if text := kvpath.Format([][]byte{name}); bytes.HasPrefix([]byte(text), []byte(prefix)) {
				found = append(found, kvpath.Format(append(path[:len(path):len(path)], name)))
			}
			if len(found) == enough {
				return full
			}
			return nil
		})
	})
	return found
}

// splitLastSlash cuts an unfinished path at its last slash that is not escaped.
func splitLastSlash(text string) (outer, last string) {
	cut := -1
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '/':
			cut = i
		}
	}
	if cut < 0 {
		return "", text
	}
	return text[:cut], text[cut+1:]
}
