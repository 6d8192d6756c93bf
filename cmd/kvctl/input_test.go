package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// Ensures that an interruptible reader delivers exactly the bytes and the error of the reader below it.
func TestInterruptible_Delivers(t *testing.T) {
	broken := errors.New("broken")
	rapid.Check(t, func(t *rapid.T) {
		data := bytes.Repeat(rapid.SliceOfN(rapid.Byte(), 1, 10).Draw(t, "data"), rapid.IntRange(0, 100_000).Draw(t, "times"))
		in := io.Reader(bytes.NewReader(data))
		if rapid.Bool().Draw(t, "with the error") {
			in = iotest.DataErrReader(in)
		}
		var want error
		if rapid.Bool().Draw(t, "broken") {
			in, want = io.MultiReader(in, iotest.ErrReader(broken)), broken
		}
		got, err := io.ReadAll(interruptible(t.Context(), in))
		require.Equal(t, want, err)
		require.True(t, bytes.Equal(data, got))
	})
}

// Ensures that a read that would wait for ever ends with its context, and that what was read before is delivered.
func TestInterruptible_EndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		in, feed := io.Pipe()
		defer feed.Close()
		r := interruptible(ctx, in)
		go feed.Write([]byte("begin"))
		p := make([]byte, 10)
		n, err := r.Read(p)
		require.NoError(t, err)
		require.Equal(t, "begin", string(p[:n]))

		failed := make(chan error)
		go func() {
			_, err := r.Read(p)
			failed <- err
		}()
		synctest.Wait() // the read is waiting
		cancel()
		require.ErrorIs(t, <-failed, context.Canceled)
		_, err = r.Read(p)
		require.ErrorIs(t, err, context.Canceled)
	})
}
