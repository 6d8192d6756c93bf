package alder_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/alderdb/alder"
)

// stopping is a stream that looks at a context in each call, as doc.go says that a caller can do to stop a backup, and ends it after so many bytes.
type stopping struct {
	ctx    context.Context
	cancel context.CancelFunc
	r      io.Reader
	w      io.Writer
	left   int
	late   int // calls after the end
}

func newStopping(ctx context.Context, after int) *stopping {
	s := &stopping{left: after}
	s.ctx, s.cancel = context.WithCancel(ctx)
	return s
}

func (s *stopping) look() error {
	if s.ctx.Err() != nil {
		s.late++
	}
	return s.ctx.Err()
}

func (s *stopping) count(n int) {
	if s.left -= n; s.left <= 0 {
		s.cancel()
	}
}

func (s *stopping) Read(p []byte) (int, error) {
	if err := s.look(); err != nil {
		return 0, err
	}
	n, err := s.r.Read(p[:min(len(p), 100)])
	s.count(n)
	return n, err
}

func (s *stopping) Write(p []byte) (int, error) {
	if err := s.look(); err != nil {
		return 0, err
	}
	n, err := s.w.Write(p)
	s.count(n)
	return n, err
}

// Ensures that a caller can stop each of the four ways to write or read a backup by the stream that it gives them: the stream's error matches theirs, the stream is
// not called again, and nothing is left behind or changed.
func TestBackup_StoppedByItsStream(t *testing.T) {
	db, base, diff := history(t)
	full, err := os.ReadFile(base.file)
	require.NoError(t, err)
	dir := filepath.Dir(base.file)
	stop := func(after int, run func(s *stopping) error) {
		t.Helper()
		s := newStopping(t.Context(), after)
		defer s.cancel()
		require.ErrorIs(t, run(s), context.Canceled)
		require.Equal(t, 1, s.late)
		names, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Len(t, names, 1)
		now, err := os.ReadFile(base.file)
		require.NoError(t, err)
		require.True(t, bytes.Equal(full, now))
	}
	tx := db.begin(false)
	stop(0, func(s *stopping) error {
		s.cancel()
		s.w = io.Discard
		_, err := tx.WriteTo(s)
		return err
	})
	stop(50, func(s *stopping) error { // behind its header
		s.w = io.Discard
		_, err := tx.WriteDiff(s, base.id)
		return err
	})
	require.NoError(t, tx.Rollback())
	for _, after := range []int{1, len(diff) / 2, len(diff) - 1} {
		stop(after, func(s *stopping) error {
			s.r = bytes.NewReader(diff)
			_, err := alder.ApplyDiff(base.file, s)
			return err
		})
		stop(after, func(s *stopping) error {
			s.r = bytes.NewReader(diff)
			_, err := alder.Restore(filepath.Join(dir, "out.db"), 0o600, bytes.NewReader(full), s)
			return err
		})
	}
	for _, after := range []int{1, len(full) / 2, len(full)} {
		stop(after, func(s *stopping) error {
			s.r = bytes.NewReader(full)
			_, err := alder.Restore(filepath.Join(dir, "out.db"), 0o600, s, bytes.NewReader(diff))
			return err
		})
	}
}
