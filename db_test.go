package alder_test

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder"
)

// Ensures that a new store is made with the given mode, says where it is, and keeps what was put into it.
func TestOpen(t *testing.T) {
	file := filepath.Join(tempDir(t), "new.db")
	db, err := alder.Open(file, 0o640, nil)
	require.NoError(t, err)
	require.Equal(t, file, db.Path())
	require.False(t, db.IsReadOnly())
	info, err := os.Stat(file)
	require.NoError(t, err)
	if runtime.GOOS != "windows" {
		require.Equal(t, fs.FileMode(0o640), info.Mode().Perm())
	}
	require.NoError(t, db.Update(func(tx *alder.Tx) error {
		b, err := tx.CreateBucket([]byte("b"))
		require.NoError(t, err)
		return b.Put([]byte("k"), []byte("v"))
	}))
	require.NoError(t, db.Close())

	require.Equal(t, "v", openAt(t, file).get("b", "k"))
}

// Ensures that an empty path is an error and not a file of some name.
func TestOpen_EmptyPath(t *testing.T) {
	_, err := alder.Open("", 0o600, nil)
	require.Error(t, err)
}

// Ensures that a file in a directory that does not exist is the system's error.
func TestOpen_NoDirectory(t *testing.T) {
	_, err := alder.Open(filepath.Join(tempDir(t), "no", "such.db"), 0o600, nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// Ensures that a read-only open of nothing makes nothing.
func TestOpen_ReadOnly_NoCreate(t *testing.T) {
	file := filepath.Join(tempDir(t), "none.db")
	_, err := alder.Open(file, 0o600, &alder.Options{ReadOnly: true})
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = os.Stat(file)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// Ensures that stores opened read-only share the file, read it, refuse to write and leave its bytes alone.
func TestOpen_ReadOnly(t *testing.T) {
	db := openTemp(t)
	db.put("b", "k", "v")
	db.mustClose()
	before, err := os.ReadFile(db.file)
	require.NoError(t, err)

	for range 2 {
		r, err := alder.Open(db.file, 0o600, &alder.Options{ReadOnly: true})
		require.NoError(t, err)
		defer func() { require.NoError(t, r.Close()) }()
		require.True(t, r.IsReadOnly())
		require.NoError(t, r.View(func(tx *alder.Tx) error {
			require.Equal(t, "v", string(tx.Bucket([]byte("b")).Get([]byte("k"))))
			return checkTx(tx)
		}))
		_, err = r.Begin(true)
		require.ErrorIs(t, err, alder.ErrDatabaseReadOnly)
		require.ErrorIs(t, r.Update(func(*alder.Tx) error { return nil }), alder.ErrDatabaseReadOnly)
		require.ErrorIs(t, r.Batch(func(*alder.Tx) error { return nil }), alder.ErrDatabaseReadOnly)
	}
	after, err := os.ReadFile(db.file)
	require.NoError(t, err)
	requireBytes(t, before, after, "file after read-only opens")
	db.DB, err = alder.Open(db.file, 0o600, &alder.Options{ReadOnly: true})
	require.NoError(t, err)
}

// Ensures that a second open of a file that is in use gives up after Options.Timeout, and not before.
func TestOpen_Timeout(t *testing.T) {
	for _, second := range []bool{false, true} {
		t.Run(fmt.Sprintf("readonly=%v", second), func(t *testing.T) {
			db := openTemp(t)
			begin := time.Now()
			_, err := alder.Open(db.file, 0o600, &alder.Options{Timeout: 150 * time.Millisecond, ReadOnly: second})
			require.ErrorIs(t, err, alder.ErrTimeout)
			require.GreaterOrEqual(t, time.Since(begin), 100*time.Millisecond)
		})
	}
}

// Ensures that readers keep a writer out as a writer keeps readers out.
func TestOpen_Timeout_Readers(t *testing.T) {
	db := openTemp(t)
	db.reopen(func(o *alder.Options) { o.ReadOnly = true })
	_, err := alder.Open(db.file, 0o600, &alder.Options{Timeout: 50 * time.Millisecond})
	require.ErrorIs(t, err, alder.ErrTimeout)
}

// Ensures that an open which waits for the file gets it as soon as it is free.
func TestOpen_Timeout_Released(t *testing.T) {
	db := openTemp(t)
	db.put("b", "k", "v")
	first := db.DB
	db.DB = nil
	time.AfterFunc(100*time.Millisecond, func() { _ = first.Close() })
	second, err := alder.Open(db.file, 0o600, &alder.Options{Timeout: time.Minute})
	require.NoError(t, err)
	require.NoError(t, second.Close())
}

// Ensures that goroutines which open the same file in turn never disturb each other.
func TestOpen_MultipleGoroutines(t *testing.T) {
	file := filepath.Join(tempDir(t), "store.db")
	rounds := 8
	if testing.Short() {
		rounds = 2
	}
	for range rounds {
		var wg sync.WaitGroup
		errs := make(chan error, 10)
		for range cap(errs) {
			wg.Go(func() {
				db, err := alder.Open(file, 0o600, &alder.Options{Timeout: time.Minute})
				if err == nil {
					err = db.Close()
				}
				errs <- err
			})
		}
		wg.Wait()
		close(errs)
		for err := range errs {
			require.NoError(t, err)
		}
	}
	openAt(t, file)
}

// Ensures that every page size that is allowed works, and that a file keeps its own.
func TestOpen_PageSize(t *testing.T) {
	for size := 4096; size <= 65536; size *= 2 {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			db := openTemp(t, withPageSize(size))
			require.Equal(t, size, db.Info().PageSize)
			db.put("b", "k", "v", "long", string(filled(3*size, 1)))
			db.mustClose()
			db.options.PageSize = 0
			db.open()
			require.Equal(t, size, db.Info().PageSize)
			require.Equal(t, "v", db.get("b", "k"))
			requireBytes(t, filled(3*size, 1), []byte(db.get("b", "long")), "long value")
		})
	}
}

// Ensures that Options.OpenFile opens the store's file, and that its error is the error of Open.
func TestOpen_OpenFile(t *testing.T) {
	file := filepath.Join(tempDir(t), "store.db")
	var opened []string
	db := openAt(t, file, func(o *alder.Options) {
		o.OpenFile = func(name string, flag int, mode os.FileMode) (*os.File, error) {
			opened = append(opened, name)
			return os.OpenFile(name, flag, mode)
		}
	})
	db.put("b", "k", "v")
	require.Contains(t, opened, file)

	refused := errors.New("refused")
	_, err := alder.Open(file+"2", 0o600, &alder.Options{
		OpenFile: func(string, int, os.FileMode) (*os.File, error) { return nil, refused },
	})
	require.ErrorIs(t, err, refused)
}

// Ensures that the options which tune bbolt, and mean little or nothing here, are accepted and do no harm.
func TestOpen_TuningOptions(t *testing.T) {
	for name, opt := range map[string]option{
		"InitialMmapSize": func(o *alder.Options) { o.InitialMmapSize = 64 << 20 },
		"NoGrowSync":      func(o *alder.Options) { o.NoGrowSync = true },
		"NoFreelistSync":  func(o *alder.Options) { o.NoFreelistSync = true },
		"PreLoadFreelist": func(o *alder.Options) { o.PreLoadFreelist = true },
		"FreelistArray":   func(o *alder.Options) { o.FreelistType = alder.FreelistArrayType },
		"FreelistMap":     func(o *alder.Options) { o.FreelistType = alder.FreelistMapType },
		"NoStatistics":    func(o *alder.Options) { o.NoStatistics = true },
		"NoSync":          withNoSync(),
		"negative":        func(o *alder.Options) { o.MaxSize, o.InitialMmapSize = -1, -1 },
	} {
		t.Run(name, func(t *testing.T) {
			db := openTemp(t, opt)
			for i := range 5 {
				db.put("b", string(key(i)), string(filled(10_000, byte(i))))
				db.reopen()
			}
			require.NoError(t, db.Sync())
			requireBytes(t, filled(10_000, 3), []byte(db.get("b", string(key(3)))), "value")
		})
	}
}

// Ensures that a store can be kept in memory, where the system allows it, while it grows.
func TestOpen_Mlock(t *testing.T) {
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		t.Skip("only root on Linux is sure to be allowed")
	}
	db := openTemp(t, func(o *alder.Options) { o.Mlock = true })
	for i := range 4 {
		db.put("b", string(key(i)), string(filled(300_000, byte(i))))
	}
	requireBytes(t, filled(300_000, 2), []byte(db.get("b", string(key(2)))), "value")
}

// Ensures that options can be printed, nil ones too.
func TestOptions_String(t *testing.T) {
	require.Equal(t, "{}", (*alder.Options)(nil).String())
	s := (&alder.Options{Timeout: 1500 * time.Millisecond, ReadOnly: true, PageSize: 8192}).String()
	require.Contains(t, s, "1.5s")
	require.Contains(t, s, "ReadOnly: true")
	require.Contains(t, s, "8192")
}

// Ensures that the text of the options has every field, with what was set.
//
// It had nine of them: Durability, LogSize and others came later and were left out.
func TestOptions_String_EveryField(t *testing.T) {
	none := (&alder.Options{}).String()
	fields := reflect.VisibleFields(reflect.TypeFor[alder.Options]())
	for _, field := range fields {
		if !field.IsExported() {
			continue
		}
		var o alder.Options
		f := reflect.ValueOf(&o).Elem().FieldByIndex(field.Index)
		want := "set"
		switch f.Kind() {
		case reflect.Func:
			f.Set(reflect.MakeFunc(f.Type(), func([]reflect.Value) []reflect.Value { panic("is not called") }))
		case reflect.Pointer:
			f.Set(reflect.New(f.Type().Elem()))
		case reflect.Bool:
			f.SetBool(true)
			want = "true"
		case reflect.String:
			f.SetString("some")
			want = "some"
		default:
			f.SetInt(7_000_000_000 >> 8)
			want = fmt.Sprint(f.Interface())
		}
		text := o.String()
		require.Regexp(t, "[{ ]"+field.Name+": "+regexp.QuoteMeta(want)+"[,}]", text)
		require.NotEqual(t, none, text)
	}
	require.Contains(t, (&alder.Options{Durability: alder.DurabilityLazy, SyncInterval: time.Second}).String(), "Durability: lazy, SyncInterval: 1s")
	require.Contains(t, none, "Logger: nil")
}

// Ensures that a store can say what it is in a log line.
func TestDB_String(t *testing.T) {
	db := openTemp(t)
	require.Equal(t, fmt.Sprintf("DB<%q>", db.file), db.String())
	require.Contains(t, fmt.Sprintf("%#v", db.DB), fmt.Sprintf("%q", db.file))
}

// Ensures that every call on a closed store says that it is closed, and that closing twice does nothing.
func TestDB_Close(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		closed := db.DB
		if db.file == "" {
			db.leaveUnchecked() // closing is the end of a store in memory
		}
		require.NoError(t, closed.Close())
		require.NoError(t, closed.Close())
		_, err := closed.Begin(false)
		require.ErrorIs(t, err, alder.ErrDatabaseNotOpen)
		_, err = closed.Begin(true)
		require.ErrorIs(t, err, alder.ErrDatabaseNotOpen)
		called := func(*alder.Tx) error { return errors.New("called") }
		require.ErrorIs(t, closed.View(called), alder.ErrDatabaseNotOpen)
		require.ErrorIs(t, closed.Update(called), alder.ErrDatabaseNotOpen)
		require.ErrorIs(t, closed.Batch(called), alder.ErrDatabaseNotOpen)
		db.DB = nil
	})
}

// Ensures that a read transaction holds Close up until it ends, and reads correctly to its end.
func TestDB_Close_PendingTx_RO(t *testing.T) { testClosePending(t, false) }

// Ensures that a write transaction holds Close up until it ends.
func TestDB_Close_PendingTx_RW(t *testing.T) { testClosePending(t, true) }

func testClosePending(t *testing.T, writable bool) {
	eachForm(t, func(t *testing.T, db *testDB) {
		db.put("b", "k", "v")
		tx := db.begin(writable)
		closed := make(chan error, 1)
		store := db.DB
		go func() { closed <- store.Close() }()
		select {
		case err := <-closed:
			t.Fatalf("closed under an open transaction: %v", err)
		case <-time.After(60 * time.Millisecond):
		}
		require.Equal(t, "v", string(tx.Bucket([]byte("b")).Get([]byte("k"))))
		require.NoError(t, tx.Rollback())
		select {
		case err := <-closed:
			require.NoError(t, err)
		case <-time.After(10 * time.Second):
			t.Fatal("still not closed")
		}
		if db.file == "" {
			db.leaveUnchecked()
		}
		db.DB = nil
	})
}

// Ensures that what Update's function did is there afterwards, and nothing of it if it returned an error,
// which is the error of Update.
func TestDB_Update(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		db.put("b", "kept", "1")
		refused := errors.New("refused")
		require.ErrorIs(t, db.Update(func(tx *alder.Tx) error {
			require.True(t, tx.Writable())
			b := tx.Bucket([]byte("b"))
			require.NoError(t, b.Put([]byte("kept"), []byte("2")))
			require.NoError(t, b.Put([]byte("dropped"), filled(20_000, 0)))
			_, err := tx.CreateBucket([]byte("dropped"))
			require.NoError(t, err)
			return refused
		}), refused)
		db.view(func(tx *alder.Tx) {
			require.Nil(t, tx.Bucket([]byte("dropped")))
			require.Equal(t, []string{"kept"}, keysOf(tx.Bucket([]byte("b"))))
		})
		require.Equal(t, "1", db.get("b", "kept"))
	})
}

// Ensures that the function given to Update or View cannot end the transaction, that the attempt panics,
// and that the store goes on working afterwards.
func TestDB_Update_ManagedTx(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		for name, end := range map[string]func(*alder.Tx) error{
			"commit":   (*alder.Tx).Commit,
			"rollback": (*alder.Tx).Rollback,
		} {
			for _, run := range []func(func(*alder.Tx) error) error{db.Update, db.View} {
				message := func() (message any) {
					defer func() { message = recover() }()
					_ = run(end)
					return nil
				}()
				require.NotNil(t, message)
				require.Contains(t, fmt.Sprint(message), "managed tx "+name+" not allowed")
			}
		}
		db.put("b", "k", "v")
		require.Zero(t, db.Stats().OpenTxN)
	})
}

// Ensures that a panic in Update's function rolls back, releases the writer's lock and goes on to the caller.
func TestDB_Update_Panic(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		db.put("b", "k", "v")
		require.PanicsWithValue(t, "omg", func() {
			_ = db.Update(func(tx *alder.Tx) error {
				require.NoError(t, tx.Bucket([]byte("b")).Put([]byte("k"), []byte("w")))
				panic("omg")
			})
		})
		within(t, 10*time.Second, "the next Update", func() { db.put("b", "after", "1") })
		require.Equal(t, "v", db.get("b", "k"))
	})
}

// Ensures that a goroutine which ends inside Update's function, as a failing test does, rolls back and
// releases the writer's lock.
func TestDB_Update_Goexit(t *testing.T) {
	db := openTemp(t)
	db.put("b", "k", "v")
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = db.Update(func(tx *alder.Tx) error {
			_ = tx.Bucket([]byte("b")).Put([]byte("k"), []byte("w"))
			runtime.Goexit()
			return nil
		})
	}()
	<-done
	within(t, 10*time.Second, "the next Update", func() { db.put("b", "after", "1") })
	require.Equal(t, "v", db.get("b", "k"))
}

// Ensures that View passes its function's error on and that the function cannot write.
func TestDB_View(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		db.put("b", "k", "v")
		refused := errors.New("refused")
		require.ErrorIs(t, db.View(func(tx *alder.Tx) error {
			require.False(t, tx.Writable())
			require.ErrorIs(t, tx.Bucket([]byte("b")).Put([]byte("k"), nil), alder.ErrTxNotWritable)
			return refused
		}), refused)
		require.Zero(t, db.Stats().OpenTxN)
	})
}

// Ensures that a panic in View's function ends its transaction and goes on to the caller.
func TestDB_View_Panic(t *testing.T) {
	db := openTemp(t)
	db.put("b", "k", "v")
	require.PanicsWithValue(t, "omg", func() {
		_ = db.View(func(tx *alder.Tx) error {
			require.NotNil(t, tx.Bucket([]byte("b")))
			panic("omg")
		})
	})
	require.Zero(t, db.Stats().OpenTxN)
	within(t, 10*time.Second, "Close", func() { _ = db.DB.Close() })
	db.DB = nil
}

// Ensures that a View inside an Update reads the state before it.
func TestDB_View_InsideUpdate(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		db.put("b", "k", "old")
		db.update(func(tx *alder.Tx) {
			require.NoError(t, tx.Bucket([]byte("b")).Put([]byte("k"), []byte("new")))
			require.Equal(t, "old", db.get("b", "k"))
		})
		require.Equal(t, "new", db.get("b", "k"))
	})
}

// Ensures that the statistics count transactions and what they did, and that two states can be subtracted.
func TestDB_Stats(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		before := db.Stats()
		r1, r2 := db.begin(false), db.begin(false)
		require.Equal(t, 2, db.Stats().OpenTxN)
		require.NoError(t, r1.Rollback())
		require.Equal(t, 1, db.Stats().OpenTxN)
		require.NoError(t, r2.Rollback())
		db.put("b", "k", string(filled(50_000, 0)))
		after := db.Stats()
		require.Equal(t, 0, after.OpenTxN)
		diff := after.Sub(&before)
		require.Equal(t, 2, diff.TxN)
		require.Positive(t, diff.TxStats.GetWrite())
		require.GreaterOrEqual(t, diff.TxStats.GetPageAlloc(), int64(50_000))

		// What is deleted becomes free pages.
		db.update(func(tx *alder.Tx) { require.NoError(t, tx.DeleteBucket([]byte("b"))) })
		db.update(func(tx *alder.Tx) {})
		s := db.Stats()
		require.Positive(t, s.FreePageN+s.PendingPageN)
		require.Equal(t, (s.FreePageN+s.PendingPageN)*db.Info().PageSize, s.FreeAlloc)
	})
}

// Ensures that NoStatistics leaves the statistics empty.
func TestDB_Stats_Off(t *testing.T) {
	db := openTemp(t, func(o *alder.Options) { o.NoStatistics = true })
	db.put("b", "k", "v")
	tx := db.begin(false)
	require.Equal(t, alder.Stats{}, db.Stats())
	require.NoError(t, tx.Rollback())
}

// Ensures that the difference of two statistics keeps the states and subtracts the counters.
func TestStats_Sub(t *testing.T) {
	var a, b alder.Stats
	a.TxStats.PageCount, a.FreePageN, a.TxN = 3, 3, 7
	b.TxStats.PageCount, b.FreePageN, b.TxN = 10, 14, 9
	diff := b.Sub(&a)
	require.EqualValues(t, 7, diff.TxStats.GetPageCount())
	require.Equal(t, 14, diff.FreePageN)
	require.Equal(t, 2, diff.TxN)
	require.Equal(t, b, b.Sub(nil))
}

// Ensures that commits are counted by how long they took, that what was returned is the caller's own, the bounds too, and that two states can be subtracted. Beyond bbolt.
//
// The bounds were a variable, which any program could change, and an array, to which none could be added.
func TestStats_Commits(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		bounds := alder.LatencyBounds()
		require.IsIncreasing(t, bounds)
		alder.LatencyBounds()[0] = time.Hour
		require.Equal(t, bounds, alder.LatencyBounds())

		none := db.Stats()
		require.Len(t, none.Commits.Buckets, len(bounds)+1)
		require.Zero(t, none.Commits.Count())
		for i := range 3 {
			db.put("b", "k", fmt.Sprint(i))
		}
		three := db.Stats()
		require.EqualValues(t, 3, three.Commits.Count())
		require.Positive(t, three.Commits.Sum)
		kept := slices.Clone(three.Commits.Buckets)
		db.put("b", "k", "4")
		four := db.Stats()
		require.Equal(t, kept, three.Commits.Buckets, "later commits are not added to what was returned")
		diff := four.Sub(&three)
		require.EqualValues(t, 1, diff.Commits.Count())
		require.Equal(t, four.Commits.Sum-three.Commits.Sum, diff.Commits.Sum)
		require.EqualValues(t, 4, four.Commits.Count(), "Sub changes neither")
		require.Equal(t, kept, three.Commits.Buckets)
		off := (&alder.Stats{}).Sub(&four)
		require.Zero(t, off.Commits.Count(), "of a store without statistics")
	})
}

// Ensures that a store that checks itself after every commit goes on.
func TestDB_StrictMode(t *testing.T) {
	eachForm(t, func(t *testing.T, db *testDB) {
		db.StrictMode = true
		for i := range 5 {
			db.put("b", string(key(i)), string(filled(i*3000, byte(i))))
		}
	})
}

// Ensures that durability can be switched off and on while the store is open, and caught up with Sync.
func TestDB_NoSync(t *testing.T) {
	db := openTemp(t)
	for i := range 20 {
		db.NoSync = i%2 == 0
		db.put("b", string(key(i)), "v")
	}
	require.NoError(t, db.Sync())
	db.reopen()
	db.view(func(tx *alder.Tx) { require.Len(t, keysOf(tx.Bucket([]byte("b"))), 20) })
}

// Ensures that growth beyond MaxSize fails that transaction, that the file stays within it, and that the
// store goes on with what fits.
func TestDB_MaxSize(t *testing.T) {
	const limit = 4 << 20
	eachForm(t, func(t *testing.T, db *testDB) {
		if db.file != "" {
			db.mustClose()
			db.options.MaxSize = limit
			db.open()
		} else {
			db.MaxSize = limit
		}
		db.put("b", "small", "1")
		err := db.Update(func(tx *alder.Tx) error {
			return tx.Bucket([]byte("b")).Put([]byte("large"), filled(limit+1, 0))
		})
		require.ErrorIs(t, err, alder.ErrMaxSizeReached)
		if db.file != "" {
			require.LessOrEqual(t, db.fileSize(), int64(limit))
		}
		db.put("b", "other", "2")
		db.view(func(tx *alder.Tx) {
			require.Equal(t, []string{"other", "small"}, keysOf(tx.Bucket([]byte("b"))))
			require.LessOrEqual(t, tx.Size(), int64(limit))
		})
	})
}

// Ensures that a store larger than MaxSize can be opened and read.
func TestDB_MaxSize_AlreadyLarger(t *testing.T) {
	db := openTemp(t)
	db.put("b", "large", string(filled(1<<20, 5)))
	db.reopen(withMaxSize(1 << 16))
	requireBytes(t, filled(1<<20, 5), []byte(db.get("b", "large")), "large value")
	err := db.Update(func(tx *alder.Tx) error {
		return tx.Bucket([]byte("b")).Put([]byte("larger"), filled(8<<20, 0))
	})
	require.ErrorIs(t, err, alder.ErrMaxSizeReached)
}

// Ensures that a default for nil options exists, and that opening does not change it.
func TestOpen_DefaultOptions(t *testing.T) {
	before := *alder.DefaultOptions
	openTemp(t)
	db, err := alder.Open(filepath.Join(tempDir(t), "x.db"), 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, db.Close())
	require.Equal(t, before.String(), alder.DefaultOptions.String())
}

// Ensures that another page size than the file's is refused with both sizes named. Unlike bbolt, which
// ignores the option.
func TestOpen_PageSize_Other(t *testing.T) {
	db := openTemp(t, withPageSize(8192))
	db.mustClose()
	_, err := alder.Open(db.file, 0o600, &alder.Options{PageSize: 4096})
	require.ErrorContains(t, err, "8192")
	require.ErrorContains(t, err, "4096")
	db.open()
}

// Ensures that a page size which is no power of two, too small or too large is refused, and that no file is
// left by the attempt. Unlike bbolt, which takes any.
func TestOpen_PageSize_Invalid(t *testing.T) {
	for _, size := range []int{-4096, 1, 512, 1024, 2048, 4095, 5000, 12288, 131072, 1 << 30} {
		file := filepath.Join(tempDir(t), "x.db")
		_, err := alder.Open(file, 0o600, &alder.Options{PageSize: size})
		require.Error(t, err, "page size %d", size)
		_, statErr := os.Stat(file)
		require.ErrorIs(t, statErr, fs.ErrNotExist, "page size %d left a file", size)
		_, err = alder.OpenMemory(&alder.Options{PageSize: size})
		require.Error(t, err, "page size %d", size)
	}
}

// Ensures that a store has an identity that stays and that no other store shares. Beyond bbolt.
func TestDB_ID(t *testing.T) {
	db, other, memory := openTemp(t), openTemp(t), openMemory(t)
	id := db.ID()
	require.Regexp(t, "^[0-9a-f]{32}$", id)
	require.NotEqual(t, id, other.ID())
	require.NotEqual(t, id, memory.ID())
	db.put("b", "k", "v")
	db.reopen()
	require.Equal(t, id, db.ID())
}

// Ensures that a store in memory is a store like any other, without a path. Beyond bbolt.
func TestOpenMemory(t *testing.T) {
	db := openMemory(t)
	require.Empty(t, db.Path())
	require.Equal(t, alder.DefaultPageSize, db.PageSize())
	db.put("b", "k", "v")
	require.Equal(t, "v", db.get("b", "k"))
	require.NoError(t, db.Sync())
	empty, err := alder.OpenMemory(nil)
	require.NoError(t, err)
	require.NoError(t, empty.View(func(tx *alder.Tx) error {
		require.Nil(t, tx.Bucket([]byte("b")), "two stores in memory are one")
		return nil
	}))
	require.NoError(t, empty.Close())
}

// Ensures that a new store is small. Beyond bbolt.
func TestOpen_SizeOfNew(t *testing.T) {
	db := openTemp(t)
	require.LessOrEqual(t, db.fileSize(), int64(64<<10))
	db.put("b", "k", "v")
	require.LessOrEqual(t, db.fileSize(), int64(128<<10), "with one key")
}

// Ensures that there is always a logger to write to, and that the given one is kept. Unlike bbolt: it is slog's.
func TestDB_Logger(t *testing.T) {
	require.NotNil(t, openTemp(t).Logger())
	var text strings.Builder
	logger := slog.New(slog.NewTextHandler(&text, nil))
	db := openTemp(t, func(o *alder.Options) { o.Logger = logger })
	require.Same(t, logger, db.Logger())
	for i := range 10 {
		db.put("b", string(key(i)), "v")
	}
	require.NotContains(t, text.String(), "level=ERROR")
	require.NotContains(t, text.String(), "level=WARN")
}

// Ensures that a store that was never opened says so.
func TestDB_NotOpened(t *testing.T) {
	var db alder.DB
	called := func(*alder.Tx) error { t.Error("called"); return nil }
	_, err := db.Begin(false)
	require.ErrorIs(t, err, alder.ErrDatabaseNotOpen)
	_, err = db.Begin(true)
	require.ErrorIs(t, err, alder.ErrDatabaseNotOpen)
	require.ErrorIs(t, db.View(called), alder.ErrDatabaseNotOpen)
	require.ErrorIs(t, db.Update(called), alder.ErrDatabaseNotOpen)
	require.ErrorIs(t, db.Batch(called), alder.ErrDatabaseNotOpen)
	require.NoError(t, db.Close())
}
