package main

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// lateContext is a context that ends when somebody has asked for its error so many times.
type lateContext struct {
	context.Context
	left atomic.Int64
}

func (c *lateContext) Err() error {
	if c.left.Add(-1) < 0 {
		return context.Canceled
	}
	return nil
}

// Ensures that an interrupt ends a check, at whatever page it comes: nothing is printed, and the error says that the check is not complete.
func TestCheck_Interrupt(t *testing.T) {
	dir := t.TempDir()
	path, stdout := filepath.Join(dir, "s.alder"), filepath.Join(dir, "stdout")
	out, err := os.Create(stdout)
	require.NoError(t, err)
	defer out.Close()
	kvctl := func(ctx context.Context, args ...string) error {
		c := &cli{stdin: os.Stdin, stdout: out, stderr: os.Stderr}
		root := newRootCommand(c)
		root.SetArgs(args)
		return root.ExecuteContext(ctx)
	}
	require.NoError(t, kvctl(t.Context(), "load", path, "src", "--dir", ".", "--quiet"))
	interrupted := 0
	for n := int64(0); ; n += 3 {
		ctx := &lateContext{Context: context.Background()}
		ctx.left.Store(n)
		err := kvctl(ctx, "check", path)
		if err == nil {
			break
		}
		require.Equal(t, exitInterrupted, codeOf(err))
		if err.Error() == "interrupted; "+path+" is not checked in full" {
			interrupted++
		}
		printed, err := os.ReadFile(stdout)
		require.NoError(t, err)
		require.Empty(t, printed)
	}
	require.Greater(t, interrupted, 10)
}
