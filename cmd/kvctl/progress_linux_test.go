package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/alderdb/alder"
)

// openTerminal returns the two ends of a pseudo-terminal.
func openTerminal(t *testing.T) (control, terminal *os.File) {
	control, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminal: %v", err)
	}
	t.Cleanup(func() { control.Close() })
	require.NoError(t, unix.IoctlSetPointerInt(int(control.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(control.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	require.NoError(t, unix.IoctlSetWinsize(int(terminal.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 100}))
	return control, terminal
}

// onTerminal runs kvctl with standard error, or standard output, on a terminal and returns what it showed there.
func onTerminal(t *testing.T, stdout bool, args ...string) string {
	control, terminal := openTerminal(t)
	cmd := exec.Command("kvctl", args...)
	var other bytes.Buffer
	if cmd.Stdout, cmd.Stderr = &other, terminal; stdout {
		cmd.Stdout, cmd.Stderr = terminal, &other
	}
	require.NoError(t, cmd.Start())
	require.NoError(t, terminal.Close())
	shown := make(chan []byte)
	go func() {
		text, _ := io.ReadAll(control) // ends in EIO when the last descriptor of the terminal is closed
		shown <- text
	}()
	require.NoError(t, cmd.Wait(), other.String())
	return string(<-shown)
}

// loadBehindLock runs kvctl load, and has the store locked until the bar is there and a second has passed: long enough for a rate,
// however fast the machine is.
func loadBehindLock(t *testing.T, store, text string) string {
	db, err := alder.Open(store, 0o644, nil)
	require.NoError(t, err)
	defer db.Close()
	control, terminal := openTerminal(t)
	cmd := exec.Command("kvctl", "load", store, "b", "--file", text, "--timeout", "5m")
	cmd.Stderr = terminal
	require.NoError(t, cmd.Start())
	require.NoError(t, terminal.Close())
	var shown bytes.Buffer
	for buf := make([]byte, 4096); !strings.Contains(shown.String(), "loading"); {
		n, err := control.Read(buf)
		require.NoError(t, err, "no bar: %s", &shown)
		shown.Write(buf[:n])
	}
	time.Sleep(time.Second)
	require.NoError(t, db.Close())
	_, _ = io.Copy(&shown, control) // ends in EIO, see above
	require.NoError(t, cmd.Wait(), shown.String())
	return shown.String()
}

// Ensures that long work shows a bar with a rate on a terminal, that it removes it at the end, and that --quiet shows none.
func TestProgress_OnTerminal(t *testing.T) {
	dir := t.TempDir()
	store, text := filepath.Join(dir, "s.alder"), filepath.Join(dir, "many.tsv")
	var lines bytes.Buffer
	for i := range 100_000 {
		fmt.Fprintf(&lines, "key%08d\tvalue\n", i)
	}
	require.NoError(t, os.WriteFile(text, lines.Bytes(), 0o644))

	shown := loadBehindLock(t, store, text)
	require.Contains(t, shown, "loading many.tsv")
	require.Regexp(t, `[KMG]iB/s\) \[`, shown)
	require.Regexp(t, `\r *\r$`, shown, "the bar is still there")
	for _, command := range [][]string{
		{"check", store},
		{"dump", store, "--output", filepath.Join(dir, "d.tsv")},
		{"compact", store, filepath.Join(dir, "c.alder")},
		{"backup", store, filepath.Join(dir, "b.alder")},
		{"salvage", store, filepath.Join(dir, "r.alder")},
	} {
		require.Contains(t, onTerminal(t, false, command...), "ing", "%v shows no bar", command)
	}
	require.Regexp(t, `torture: 2 kills, [0-9,]+ transactions?`, onTerminal(t, false, "torture", dir, "--kills", "2"))
	require.Empty(t, onTerminal(t, false, "load", store, "b", "--file", text, "--quiet"))
}

// Ensures that get quotes what a terminal could not show, ends its line, and leaves the bytes alone if it is told to.
func TestGet_OnTerminal(t *testing.T) {
	store := filepath.Join(t.TempDir(), "s.alder")
	require.NoError(t, exec.Command("kvctl", "put", store, "b", "text", "plain").Run())
	require.NoError(t, exec.Command("kvctl", "put", store, "b", "bin", "--format", "hex", "1b5b324a").Run())
	require.Equal(t, "plain\r\n", onTerminal(t, true, "get", store, "b", "text"))
	require.Equal(t, `"\x1b[2J"`+"\r\n", onTerminal(t, true, "get", store, "b", "bin"))
	require.Equal(t, "\x1b[2J", onTerminal(t, true, "get", store, "b", "bin", "--format", "raw"))
}
