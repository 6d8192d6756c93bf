package killtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder"
)

var config = Config{Goroutines: 8, Seed: 7}

// run writes into a store in memory until so many transactions are acknowledged. Mixed: some of them are lazy.
func run(t *testing.T, db *alder.DB, v *Verifier, transactions int, mixed bool) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	n := 0
	require.NoError(t, Run(ctx, db, Round{Config: config, Mixed: mixed}, func(a Ack) error {
		if n++; n == transactions {
			cancel()
		}
		back, ok := ParseAck(a.String())
		require.True(t, ok)
		require.Equal(t, a, back)
		return v.Acked(back)
	}))
}

func openMemory(t *testing.T) *alder.DB {
	db, err := alder.OpenMemory(nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// Ensures that what the writers have written is what the verifier works out, over several lives of the writers, and that every
// kind of operation has had an effect.
func TestVerify(t *testing.T) {
	db := openMemory(t)
	v := NewVerifier(config)
	keys, err := v.Verify(db)
	require.NoError(t, err)
	require.Zero(t, keys)
	for range 4 {
		run(t, db, v, 400, true)
		keys, err := v.Verify(db)
		require.NoError(t, err)
		require.Greater(t, keys, int64(200))
		require.GreaterOrEqual(t, v.Found(), v.Transactions())
	}
	nested, sequences, long := 0, 0, 0
	var count func(b *bucket)
	count = func(b *bucket) {
		for k := range b.values {
			if len(k) > 1000 {
				long++
			}
		}
		for _, sub := range b.buckets {
			nested++
			if sub.sequence > 0 {
				sequences++
			}
			count(sub)
		}
	}
	for _, b := range v.content {
		count(b)
	}
	require.Positive(t, nested)
	require.Positive(t, sequences)
	require.Positive(t, long)

	// Somebody who has seen only a part of the acknowledgements comes to the same.
	late := NewVerifier(config)
	late.Lossy = true
	require.NoError(t, late.Acked(Ack{Goroutine: 0, Number: 3, Order: 9}))
	_, err = late.Verify(db)
	require.NoError(t, err)
}

// anyKey returns a key with a value that is the last of its bucket; a goroutine may just have removed all of its own.
func anyKey(tx *alder.Tx) (*alder.Bucket, []byte) {
	for g := range 8 {
		b := tx.Bucket(fmt.Appendf(nil, "g%d", g))
		if b == nil {
			continue
		}
		if k, v := b.Cursor().Last(); v != nil {
			return b, k
		}
	}
	panic("there are no keys")
}

// Ensures that the verifier notices each kind of broken promise.
func TestVerify_Notices(t *testing.T) {
	put := func(path []string, key, value string) func(tx *alder.Tx) error {
		return func(tx *alder.Tx) error {
			b := find(tx.Bucket([]byte(path[0])), path[1:])
			return b.Put([]byte(key), []byte(value))
		}
	}
	for _, c := range []struct {
		name string
		do   func(tx *alder.Tx) error
		ack  *Ack
		says string
	}{
		{name: "a key that nobody has put", do: put([]string{"g0"}, "k999999", ""), says: "where the end must be"},
		{name: "another value", do: func(tx *alder.Tx) error {
			b := tx.Bucket([]byte("g0"))
			k, _ := b.Cursor().Seek([]byte("k"))
			return b.Put(k, value{1, 50}.bytes())
		}, says: "must be"},
		{name: "bytes that are no value", do: func(tx *alder.Tx) error {
			b, k := anyKey(tx)
			return b.Put(k, bytes.Repeat([]byte("x"), 100))
		}, says: "that nobody has put"},
		{name: "a lost key", do: func(tx *alder.Tx) error {
			b, k := anyKey(tx)
			return b.Delete(k)
		}, says: "missing"},
		{name: "a lost bucket", do: func(tx *alder.Tx) error { return tx.Bucket([]byte("g0")).DeleteBucket([]byte("a")) }, says: `must be`},
		{name: "another sequence", do: func(tx *alder.Tx) error {
			return tx.Bucket([]byte("g0")).Bucket([]byte("a")).SetSequence(77)
		}, says: "its sequence is 77"},
		{name: "a lost goroutine", do: func(tx *alder.Tx) error { return tx.DeleteBucket([]byte("g1")) }, says: "bucket g1 is missing"},
		{name: "a bucket at the top", do: func(tx *alder.Tx) error { _, err := tx.CreateBucket([]byte("new")); return err }, says: "nobody has made"},
		{name: "a partial transaction", do: func(tx *alder.Tx) error {
			n, err := number(tx, "g0")
			if n == 0 {
				return errNothingCommitted
			}
			return errors.Join(err, put([]string{"numbers"}, "g0", strconv.FormatUint(n-1, 10))(tx))
		}, says: "in part"},
		{name: "a lost transaction", do: func(tx *alder.Tx) error {
			n, err := number(tx, "g0")
			if n == 0 {
				return errNothingCommitted
			}
			sum, err2 := number(tx, "sum")
			return errors.Join(err, err2, put([]string{"numbers"}, "g0", strconv.FormatUint(n-1, 10))(tx),
				put([]string{"numbers"}, "sum", strconv.FormatUint(sum-1, 10))(tx))
		}, says: "was acknowledged"},
		{name: "transactions that nobody has made", do: func(tx *alder.Tx) error {
			n, err := number(tx, "g0")
			sum, err2 := number(tx, "sum")
			return errors.Join(err, err2, put([]string{"numbers"}, "g0", strconv.FormatUint(n+2, 10))(tx),
				put([]string{"numbers"}, "sum", strconv.FormatUint(sum+2, 10))(tx))
		}, says: "only those up to"},
		{name: "another configuration", do: put([]string{"config"}, "config", `{"goroutines":8,"seed":8}`), says: "was made with"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var possible error
			for range 20 {
				db := openMemory(t)
				v := NewVerifier(config)
				// None is lazy: a crash may take a lazy one back if it is the last, and which goroutine has the last one is chance.
				run(t, db, v, 150, false)
				// What is to be damaged may not be there: its goroutine may just have dropped it.
				if possible = db.Update(func(tx *alder.Tx) (err error) {
					defer func() {
						if r := recover(); r != nil {
							err = fmt.Errorf("%v", r)
						}
					}()
					return c.do(tx)
				}); possible == nil {
					_, err := v.Verify(db)
					require.ErrorContains(t, err, c.says)
					return
				}
			}
			require.NoError(t, possible)
		})
	}
}

// errNothingCommitted is the error of who wants to take a transaction away from a goroutine that, by chance, has committed none.
var errNothingCommitted = errors.New("the goroutine has not committed anything")

// Ensures that the order of commits is held against what is there: a later transaction without an earlier one is noticed also where transactions
// may be lost, and none may be lost that one which is not lazy was committed behind.
func TestVerify_Prefix(t *testing.T) {
	after := func(lazy ...bool) *Verifier {
		v := NewVerifier(Config{Goroutines: 2, Seed: 1})
		for i, lazy := range lazy {
			require.NoError(t, v.Acked(Ack{i % 2, uint64(i/2 + 1), uint64(i + 1), lazy}))
		}
		return v
	}
	for _, allowed := range [][]uint64{{0, 0}, {1, 0}, {1, 1}, {2, 1}, {2, 2}, {3, 2}, {2, 3}} {
		require.NoError(t, after(true, true, true, true).prefix(allowed), "%v", allowed)
	}
	require.ErrorContains(t, after(true, true, true, true).prefix([]uint64{2, 0}), "not the first ones")
	require.ErrorContains(t, after(true, true, true, true).prefix([]uint64{0, 1}), "not the first ones")
	require.ErrorContains(t, after(true, true, true, true).prefix([]uint64{4, 2}), "only those up to 2")

	require.NoError(t, after(true, true, false, true).prefix([]uint64{2, 1}))
	require.ErrorContains(t, after(true, true, false, true).prefix([]uint64{1, 1}), "was acknowledged")
	require.ErrorContains(t, after(true, true, false, true).prefix([]uint64{2, 0}), "was acknowledged")
	require.NoError(t, after(false, false, false, false).prefix([]uint64{2, 3}))
	require.ErrorContains(t, after(false, false, false, false).prefix([]uint64{2, 1}), "was acknowledged")

	v := after(false, false, false, false)
	require.ErrorContains(t, v.Acked(Ack{0, 4, 5, false}), "has acknowledged transaction 4 after 2")
	require.ErrorContains(t, v.Acked(Ack{0, 2, 5, false}), "after")
	require.ErrorContains(t, v.Acked(Ack{2, 1, 5, false}), "goroutine 2, there are 2")
}

// Ensures that only whole, unchanged lines are acknowledgements.
func TestParseAck(t *testing.T) {
	line := Ack{3, 1234, 98765, false}.String()
	for i := range len(line) {
		_, ok := ParseAck(line[:i])
		require.False(t, ok, line[:i])
		changed := []byte(line)
		changed[i] ^= 1
		if a, ok := ParseAck(string(changed)); ok {
			require.Equal(t, Ack{3, 1234, 98765, false}, a, "%q", changed) // white space is white space
		}
	}
	_, ok := ParseAck(line)
	require.True(t, ok)
}

// Ensures that a value tells its own damage.
func TestValue(t *testing.T) {
	for _, size := range []int{0, 8, 9, 15, 16, 17, 100, 5000} {
		v := value{99, size}
		if size == 0 {
			v = value{}
		}
		b := v.bytes()
		back, ok := valueOf(b)
		require.True(t, ok)
		require.Equal(t, v, back)
		for i := range b {
			b[i] ^= 0x20
			other, ok := valueOf(b)
			require.False(t, ok && other == v, "size %d, byte %d", size, i)
			b[i] ^= 0x20
		}
	}
	_, ok := valueOf(make([]byte, 7))
	require.False(t, ok)
}

const childEnv = "KILLTEST_CHILD"

func init() {
	switch text := os.Getenv(childEnv); {
	case text == "":
	case strings.HasPrefix(text, "lie "):
		// A writer that acknowledges what it has not committed, and then waits for its end.
		_, _ = os.Stdout.WriteString(Ack{0, 1, 1, false}.String())
		time.Sleep(time.Minute)
	case strings.HasPrefix(text, "fail "):
		_, _ = os.Stderr.WriteString(writerFailed + "no more\n")
		os.Exit(1)
	case strings.HasPrefix(text, "babble "):
		_, _ = os.Stdout.WriteString("hello\n")
		time.Sleep(time.Minute)
	default:
		round, err := ParseRound(text)
		if err == nil {
			err = WriteAndReport(round, os.Stdin, os.Stdout, os.Stderr)
		}
		if err != nil {
			os.Exit(3)
		}
		os.Exit(0)
	}
}

func loop(t *testing.T, kind string) (*Loop, string) {
	self, err := os.Executable()
	require.NoError(t, err)
	dir, err := os.MkdirTemp("", "killtest-")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return &Loop{
		Config: config, Dir: dir,
		Command: func(r Round) *exec.Cmd {
			cmd := exec.Command(self)
			cmd.Env = append(os.Environ(), childEnv+"="+kind+r.String())
			return cmd
		},
		Until: func(total Totals) bool { return total.Kills == 3 },
	}, dir
}

// Ensures that the loop kills a real process and counts what it has seen.
func TestLoop(t *testing.T) {
	l, dir := loop(t, "")
	calls := 0
	l.Progress = func(Totals) { calls++ }
	total, err := l.Run(context.Background())
	require.NoError(t, err)
	require.Equal(t, 3, total.Kills)
	require.Equal(t, 3, calls)
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

// Ensures that a writer that breaks its promises, or ends by itself, is a failure that says so.
func TestLoop_Failures(t *testing.T) {
	for kind, says := range map[string]string{
		"lie ": "", "fail ": "the writer ended by itself: exit status 1: writer: no more", "babble ": `the writer printed "hello\n"`,
	} {
		l, _ := loop(t, kind)
		_, err := l.Run(context.Background())
		var failure *Failure
		require.ErrorAs(t, err, &failure, kind)
		require.ErrorContains(t, err, says)
		if kind == "lie " {
			require.Regexp(t, "gone or empty|was acknowledged|no such file", err.Error())
		}
	}
}

// Ensures that the end of the context ends the loop without an error.
func TestLoop_Canceled(t *testing.T) {
	l, _ := loop(t, "")
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(100*time.Millisecond, cancel)
	l.Until = func(Totals) bool { return false }
	_, err := l.Run(ctx)
	require.NoError(t, err)
}
