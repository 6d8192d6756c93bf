package main

import (
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Ensures that acknowledgements arrive through a network, and are what --verify needs, also when the last one was cut.
func TestTorture_Network(t *testing.T) {
	dir := t.TempDir()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	received := make(chan []byte, 1)
	go func() {
		connection, err := listener.Accept()
		if err != nil {
			received <- nil
			return
		}
		defer connection.Close()
		text, _ := io.ReadAll(connection)
		received <- text
	}()
	out, err := exec.Command("kvctl", "torture", dir, "--power", "--time", "500ms", "--ack", "tcp://"+listener.Addr().String()).CombinedOutput()
	require.NoError(t, err, "%s", out)
	acks := <-received
	require.Contains(t, string(acks), "\nack 0 1 ")
	file := filepath.Join(dir, "acks.txt")
	require.NoError(t, os.WriteFile(file, acks[:len(acks)-3], 0o644))
	out, err = exec.Command("kvctl", "torture", dir, "--verify", "--ack", file).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Regexp(t, `transactions acknowledged, all there, of .*: no fault \(1 line could not be read\)`, string(out))
}
