package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/alderdb/alder/internal/kvformat"
)

var loadLong = `Load puts the records of --file, or of standard input, or the files below
--dir, into a store. The file and the buckets are created if they do not exist;
keys that exist get the new value.

The formats of --format (default: by the name of --file, else tsv):

` + kvformat.Describe() + `
The columns of tsv, csv, hex and base64 are key and value, or bucket, key and
value; jsonl has the fields "bucket", "key" and "value", lmdb the name of a
database. Such buckets are paths inside BUCKET, or of the whole store without
it. kvctl dump writes all of these formats.

With --dir each regular file becomes a key, its path below the directory with /
between the names, and its content the value. BUCKET defaults to the last name
of the directory. Symbolic links and special files are skipped and counted.

The records go into transactions of about --tx-size bytes. When a record cannot
be read or stored, or on an interrupt, its whole transaction is dropped, those
before it stay, and the message says how far that is. To load the same input
again is safe. Input that is sorted by key is recognized and appended: it loads
fastest and fills its pages.`

const loadExample = `  kvctl load src.alder go --dir "$(go env GOROOT)/src"
  kvctl load app.alder users --file users.csv
  kvctl scan old.alder users | kvctl load app.alder users
  kvctl dump old.alder | kvctl load app.alder
  mdb_dump -a env | kvctl load app.alder --format lmdb`

const (
	defaultTxSize    = 32 << 20
	defaultTxRecords = 100_000
)

type loadCommand struct {
	*cli
	file, dir      string
	format         string
	skipUnreadable bool
	limits         txLimits
	store          storeOptions
}

// txLimits is when the loader commits: at this many records or this many bytes of keys and values.
type txLimits struct {
	bytes   sizeFlag
	records int
}

func newLoadCommand(c *cli) *cobra.Command {
	l := &loadCommand{cli: c, limits: txLimits{bytes: defaultTxSize}, store: storeOptions{create: true}}
	cmd := &cobra.Command{
		Use:               "load DB [BUCKET]",
		Short:             "Put many records, or a tree of files, into a store",
		Long:              loadLong,
		Example:           loadExample,
		Args:              between(1, 2),
		ValidArgsFunction: c.completeArguments,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := errors.Join(exclude(cmd, "file", "dir"), exclude(cmd, "format", "dir")); err != nil {
				return err
			}
			return l.run(cmd.Context(), args[0], args[1:])
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&l.file, "file", "f", "", "read records from `FILE` (-: standard input)")
	flags.StringVarP(&l.dir, "dir", "d", "", "load the files below `PATH`")
	flags.StringVar(&l.format, "format", "", "format of the records: "+strings.Join(kvformat.Formats(), ", "))
	completeFlag(cmd, "format", kvformat.Formats())
	flags.BoolVar(&l.skipUnreadable, "skip-unreadable", false, "with --dir: skip and count files that cannot be read")
	flags.Var(&l.limits.bytes, "tx-size", "commit after this many bytes of keys and values")
	flags.IntVar(&l.limits.records, "tx-records", defaultTxRecords, "commit after this many records")
	l.store.addPageSizeFlag(cmd, "4096")
	c.addJSONFlag(cmd, "print the summary as a JSON object")
	return cmd
}

// recordSource is where the records to load come from.
type recordSource interface {
	// Read returns the next record, or io.EOF. Its key and value are valid until the next call.
	Read() (kvformat.Record, error)

	// position is that of the last record, or of the error; where says in a message what it means.
	position() int
	where(position int) string

	// skipped is what was left out, by reason.
	skipped() map[string]int

	Close() error
}

func (l *loadCommand) run(ctx context.Context, store string, rest []string) error {
	if l.limits.bytes < 1 || l.limits.records < 1 {
		return usageErrorf("load: --tx-size and --tx-records must be at least 1")
	}
	base, err := optionalBucket(rest)
	if err != nil {
		return err
	}
	var source recordSource
	if l.dir != "" {
		if len(base) == 0 {
			if base, err = bucketOfDir(l.dir); err != nil {
				return err
			}
		}
		source, err = l.openDir(ctx, store)
	} else {
		source, err = l.openRecords(ctx)
	}
	if err != nil {
		return err
	}
	defer source.Close()

	start := time.Now()
	loader := newLoader(l, store, base)
	if err := loader.loadAll(ctx, source); err != nil {
		return err
	}
	return l.summarize(loader.done, source.skipped(), time.Since(start))
}

// bucketOfDir is the bucket for a directory when none is named: the last element of its path.
func bucketOfDir(dir string) ([][]byte, error) {
	full, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	name := filepath.Base(full)
	if name == string(filepath.Separator) || name == "." {
		return nil, usageErrorf("load: --dir %s has no name that could be the bucket's; give BUCKET", dir)
	}
	return [][]byte{[]byte(name)}, nil
}

// textSource is records from a text.
type textSource struct {
	kvformat.Reader
	in   io.Closer
	name string
	bar  *progress
	read *countingReader
}

func (l *loadCommand) openRecords(ctx context.Context) (recordSource, error) {
	file := l.file
	if file == "" {
		if isTerminal(l.stdin) {
			return nil, usageErrorf("load: no input; give --file, --dir, or pipe the records in")
		}
		file = "-"
	}
	format := l.format
	if format == "" {
		if format = kvformat.ByExtension(file); format == "" {
			format = "tsv"
		}
	}
	in, name, size, err := l.openInput(file)
	if err != nil {
		return nil, err
	}
	s := &textSource{in: in, name: name, read: &countingReader{in: interruptible(ctx, in)}}
	if s.Reader, err = kvformat.NewReader(format, s.read); err != nil {
		in.Close()
		return nil, usageErrorf("load: --format: %w", err)
	}
	s.bar = l.startProgress("loading "+filepath.Base(name), size, unitBytes)
	return s, nil
}

func (s *textSource) Read() (kvformat.Record, error) {
	s.bar.set(s.read.n)
	return s.Reader.Read()
}

func (s *textSource) position() int           { return s.Line() }
func (s *textSource) skipped() map[string]int { return nil }

func (s *textSource) where(line int) string {
	if line == 0 {
		return s.name // not even the first line could be read
	}
	return fmt.Sprintf("%s, line %d", s.name, line)
}

func (s *textSource) Close() error {
	s.bar.finish()
	return s.in.Close()
}

type countingReader struct {
	in io.Reader
	n  int64
}

func (r *countingReader) Read(p []byte) (int, error) {
	n, err := r.in.Read(p)
	r.n += int64(n)
	return n, err
}

type loadResult struct {
	Records      int64          `json:"records"`
	Bytes        int64          `json:"bytes"`
	Transactions int            `json:"transactions"`
	Sorted       bool           `json:"sorted"`
	Skipped      map[string]int `json:"skipped,omitempty"`
	Seconds      float64        `json:"seconds"`
}

func (l *loadCommand) summarize(done loadProgress, skipped map[string]int, took time.Duration) error {
	if l.quiet {
		return nil
	}
	result := loadResult{
		Records: done.records, Bytes: done.bytes, Transactions: done.transactions,
		Sorted: done.sorted, Skipped: skipped, Seconds: took.Seconds(),
	}
	text := "loaded " + done.String()
	if seconds := took.Seconds(); seconds >= 0.1 {
		text += fmt.Sprintf(", %.1f s, %s/s", seconds, formatSize(int64(float64(done.bytes)/seconds)))
	}
	return l.printValue(result, text+skipText(skipped))
}

// failure words an error of loading: where it happened, why, and what of the input is in the store.
func (l *loader) failure(source recordSource, err error) error {
	kept := "nothing is committed"
	if l.done.transactions > 0 {
		kept = "committed before it: " + l.done.String()
		if l.done.last != "" {
			kept += " (up to " + l.done.last + ")"
		}
	}
	if errors.Is(err, context.Canceled) {
		return interruptedErrorf("%s; load the same input again to complete it", strings.Replace(kept, "committed before it", "committed", 1))
	}
	code := codeOf(err)
	var syntax *kvformat.SyntaxError
	if errors.As(err, &syntax) {
		code, err = exitUsage, syntax.Err
	}
	where := source.where(l.at)
	if errors.Is(err, errOfStore) {
		where = l.store
	}
	return &codedError{code, fmt.Errorf("load %s: %w; %s", where, err, kept)}
}
