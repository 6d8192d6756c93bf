//go:build cgo

package engine

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/mattn/go-sqlite3"

	"github.com/alderdb/alder/bench/internal/data"
)

func init() {
	Register(&Engine{
		Name:    "sqlite",
		Version: func() string { version, _, _ := sqlite3.Version(); return version + " (mattn/go-sqlite3, cgo)" },
		Settings: "WAL; synchronous=FULL where the workload is durable, else NORMAL; mmap_size over the whole file; " +
			"64 MB page cache; one WITHOUT ROWID table; prepared statements; one writing connection",
		LazyMeans: "synchronous=NORMAL: a crash of the machine loses the latest transactions",
		Open:      openSQLite,
		BulkBytes: bulkBytes,
	})
}

type sqliteStore struct {
	db *sql.DB
	// writer admits one write transaction at a time: SQLite would answer the others with SQLITE_BUSY.
	writer sync.Mutex
}

func openSQLite(c Config) (Store, error) {
	synchronous := "FULL"
	if c.Durability == Lazy {
		synchronous = "NORMAL"
	}
	name := fmt.Sprintf("file:%s?_journal_mode=WAL&_synchronous=%s&_busy_timeout=60000&_cache_size=-65536",
		filepath.Join(c.Dir, "sqlite.db"), synchronous)
	db, err := sql.Open("sqlite3", name)
	if err != nil {
		return nil, err
	}
	db.SetMaxIdleConns(1024)
	s := &sqliteStore{db: db}
	_, err = db.Exec("CREATE TABLE IF NOT EXISTS records (k BLOB PRIMARY KEY, v BLOB NOT NULL) WITHOUT ROWID")
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

func (s *sqliteStore) Sync() error {
	_, err := s.db.Exec("PRAGMA wal_checkpoint(FULL)")
	return err
}

func (s *sqliteStore) Close() error { return s.db.Close() }

// Settle moves the log into the database file.
func (s *sqliteStore) Settle() error {
	_, err := s.db.Exec("PRAGMA wal_checkpoint(TRUNCATE)")
	return err
}

func (s *sqliteStore) Shrink() error {
	s.writer.Lock()
	defer s.writer.Unlock()
	if _, err := s.db.Exec("VACUUM"); err != nil {
		return err
	}
	return s.Settle()
}

// statements prepares what one connection runs again and again.
func (s *sqliteStore) statements(texts map[string]**sql.Stmt) (*sql.Conn, error) {
	conn, err := s.db.Conn(background)
	if err != nil {
		return nil, err
	}
	if _, err := conn.ExecContext(background, "PRAGMA mmap_size=1099511627776"); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	for text, stmt := range texts {
		if *stmt, err = conn.PrepareContext(background, text); err != nil {
			return nil, errors.Join(fmt.Errorf("preparing %q: %w", text, err), conn.Close())
		}
	}
	return conn, nil
}

func (s *sqliteStore) Reader() (Reader, error) {
	r := &sqliteReader{}
	var err error
	r.conn, err = s.statements(map[string]**sql.Stmt{
		"BEGIN":                             &r.begin,
		"COMMIT":                            &r.end,
		"SELECT v FROM records WHERE k = ?": &r.get,
		"SELECT k, v FROM records WHERE k >= ? ORDER BY k LIMIT ?":      &r.forward,
		"SELECT k, v FROM records WHERE k <= ? ORDER BY k DESC LIMIT ?": &r.backward,
		"SELECT k, v FROM records ORDER BY k DESC LIMIT ?":              &r.fromLast,
		"SELECT count(*) FROM records WHERE k >= ? AND k < ?":           &r.count,
		"SELECT k FROM records ORDER BY k LIMIT 1 OFFSET ?":             &r.at,
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

type sqliteReader struct {
	conn                        *sql.Conn
	begin, end, get             *sql.Stmt
	forward, backward, fromLast *sql.Stmt
	count, at                   *sql.Stmt
}

// Once is a SELECT outside of a transaction, which is a read transaction of its own.
func (r *sqliteReader) Once(key []byte, check *data.Check) error { return r.Get(key, check) }

func (r *sqliteReader) Begin() error {
	_, err := r.begin.ExecContext(background)
	return err
}

func (r *sqliteReader) Get(key []byte, check *data.Check) error {
	rows, err := r.get.QueryContext(background, key)
	if err != nil {
		return err
	}
	defer rows.Close()
	var value sql.RawBytes
	if rows.Next() {
		if err := rows.Scan(&value); err != nil {
			return err
		}
	}
	check.See(value)
	return rows.Err()
}

func (r *sqliteReader) Scan(from []byte, limit int, reverse bool, sum *data.Sum) error {
	return r.rows(from, limit, reverse, func(key, value []byte) bool {
		sum.Add(key, value)
		return true
	})
}

func (r *sqliteReader) Visit(from []byte, visit func(key, value []byte) bool) error {
	return r.rows(from, 0, false, visit)
}

func (r *sqliteReader) rows(from []byte, limit int, reverse bool, visit func(key, value []byte) bool) error {
	if limit == 0 {
		limit = -1 // SQLite's "no limit"
	}
	var rows *sql.Rows
	var err error
	switch {
	case reverse && from == nil:
		rows, err = r.fromLast.QueryContext(background, limit)
	case reverse:
		rows, err = r.backward.QueryContext(background, from, limit)
	default:
		if from == nil {
			from = []byte{}
		}
		rows, err = r.forward.QueryContext(background, from, limit)
	}
	if err != nil {
		return err
	}
	defer rows.Close()
	var key, value sql.RawBytes
	for rows.Next() {
		if err := rows.Scan(&key, &value); err != nil {
			return err
		}
		if !visit(key, value) {
			break
		}
	}
	return rows.Err()
}

// Count and At visit the rows in between, inside of SQLite.
func (r *sqliteReader) Count(from, to []byte) (n uint64, err error) {
	err = r.count.QueryRowContext(background, from, to).Scan(&n)
	return n, err
}

func (r *sqliteReader) At(i uint64) (key []byte, err error) {
	err = r.at.QueryRowContext(background, int64(i)).Scan(&key)
	return key, err
}

func (r *sqliteReader) End() error {
	_, err := r.end.ExecContext(background)
	return err
}

func (r *sqliteReader) Close() error { return r.conn.Close() }

func (s *sqliteStore) Writer() (Writer, error) {
	w := &sqliteWriter{store: s}
	var err error
	w.conn, err = s.statements(map[string]**sql.Stmt{
		"BEGIN IMMEDIATE": &w.begin,
		"COMMIT":          &w.commit,
		"ROLLBACK":        &w.rollback,
		"INSERT INTO records (k, v) VALUES (?, ?) ON CONFLICT (k) DO UPDATE SET v = excluded.v": &w.put,
		"DELETE FROM records WHERE k = ?": &w.del,
	})
	if err != nil {
		return nil, err
	}
	return w, nil
}

type sqliteWriter struct {
	store                             *sqliteStore
	conn                              *sql.Conn
	begin, commit, rollback, put, del *sql.Stmt
}

// Once is an INSERT outside of a transaction, which is a write transaction of its own.
func (w *sqliteWriter) Once(key, value []byte) error {
	w.store.writer.Lock()
	defer w.store.writer.Unlock()
	return w.Put(key, value)
}

func (w *sqliteWriter) Begin() error {
	w.store.writer.Lock()
	_, err := w.begin.ExecContext(background)
	if err != nil {
		w.store.writer.Unlock()
	}
	return err
}

func (w *sqliteWriter) Put(key, value []byte) error {
	_, err := w.put.ExecContext(background, key, value)
	return err
}

func (w *sqliteWriter) Delete(key []byte) error {
	_, err := w.del.ExecContext(background, key)
	return err
}

func (w *sqliteWriter) Commit() error   { return w.finish(w.commit) }
func (w *sqliteWriter) Rollback() error { return w.finish(w.rollback) }

func (w *sqliteWriter) finish(stmt *sql.Stmt) error {
	defer w.store.writer.Unlock()
	_, err := stmt.ExecContext(context.Background())
	return err
}

func (w *sqliteWriter) Close() error { return w.conn.Close() }
