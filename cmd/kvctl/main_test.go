package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/alderdb/alder"
)

// Under -race a program would sleep for a second when it ends; the scripts run hundreds.
const raceOptions = "atexit_sleep_ms=0"

func TestMain(m *testing.M) {
	os.Setenv("GORACE", raceOptions)
	testscript.Main(m, map[string]func(){
		"kvctl":     main,
		"holdstore": holdStore,
	})
}

// TestScript runs the scripts in testdata/script. Besides the commands of testscript they have those of scriptCommands
// below, the program holdstore, and the conditions [root], [fifo] and [tmpfs].
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		Cmds:                scriptCommands,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("GORACE", raceOptions)
			return nil
		},
		Condition: func(name string) (bool, error) {
			switch name {
			case "root":
				return os.Geteuid() == 0, nil
			case "fifo":
				return mkfifo != nil, nil
			case "tmpfs":
				return canMountTmpfs(t), nil
			}
			return false, fmt.Errorf("unknown condition %s", name)
		},
	})
}

var scriptCommands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"exits":        scriptExits,
	"waitfor":      scriptWaitFor,
	"bytes":        scriptBytes,
	"resize":       scriptResize,
	"damage":       scriptDamage,
	"zero":         scriptZero,
	"otherversion": scriptOtherVersion,
	"boltfile":     scriptBoltFile,
	"fifo":         scriptFifo,
	"tmpfs":        scriptTmpfs,
	"repeat":       scriptRepeat,
	"keyfile":      scriptKeyFile,
}

// exits CODE PROGRAM ARGS... runs a program, which must end with this exit code.
func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGS...")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code is %d, want %s", code, args[0])
	}
}

// waitfor FILE waits until a file exists.
func scriptWaitFor(ts *testscript.TestScript, neg bool, args []string) {
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
			return
		}
	}
	ts.Fatalf("%s did not appear", args[0])
}

// bytes FILE TEXT... writes the texts, which are Go string literals without their quotes, to a file.
func scriptBytes(ts *testscript.TestScript, neg bool, args []string) {
	var data []byte
	for _, text := range args[1:] {
		part, err := strconv.Unquote(`"` + text + `"`)
		ts.Check(err)
		data = append(data, part...)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), data, 0o644))
}

// repeat FILE COUNT FORMAT writes a text of COUNT lines, each the number of the line in FORMAT.
func scriptRepeat(ts *testscript.TestScript, neg bool, args []string) {
	count, err := strconv.Atoi(args[1])
	ts.Check(err)
	format, err := strconv.Unquote(`"` + args[2] + `"`)
	ts.Check(err)
	var text bytes.Buffer
	for i := range count {
		text.WriteString(strings.ReplaceAll(format, "#", fmt.Sprintf("%08d", i)) + "\n")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), text.Bytes(), 0o644))
}

// keyfile FILE LENGTH writes a tsv text of one record, whose key has this length.
func scriptKeyFile(ts *testscript.TestScript, neg bool, args []string) {
	length, err := strconv.Atoi(args[1])
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Repeat("k", length)+"\tv\n"), 0o644))
}

// resize FILE SIZE truncates or extends a file, with a hole.
func scriptResize(ts *testscript.TestScript, neg bool, args []string) {
	size, err := strconv.ParseInt(args[1], 0, 64)
	ts.Check(err)
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_RDWR|os.O_CREATE, 0o644)
	ts.Check(err)
	ts.Check(errors.Join(f.Truncate(size), f.Close()))
}

// damage FILE TEXT inverts the bits of every occurrence of a text in a file.
func scriptDamage(ts *testscript.TestScript, neg bool, args []string) {
	edit(ts, args[0], func(data []byte) []byte {
		text := []byte(args[1])
		if !bytes.Contains(data, text) {
			ts.Fatalf("%s does not contain %s", args[0], text)
		}
		inverted := bytes.Clone(text)
		for i := range inverted {
			inverted[i] ^= 0xff
		}
		return bytes.ReplaceAll(data, text, inverted)
	})
}

// zero FILE FROM LENGTH puts zeros into a file.
func scriptZero(ts *testscript.TestScript, neg bool, args []string) {
	from, err := strconv.Atoi(args[1])
	ts.Check(err)
	length, err := strconv.Atoi(args[2])
	ts.Check(err)
	edit(ts, args[0], func(data []byte) []byte {
		clear(data[from : from+length])
		return data
	})
}

// otherversion FILE makes a store say that it has the next version of the format. The version follows the magic
// text in the meta pages.
func scriptOtherVersion(ts *testscript.TestScript, neg bool, args []string) {
	edit(ts, args[0], func(data []byte) []byte {
		magic := []byte("alderkv\x00")
		for at := 0; ; at += len(magic) {
			i := bytes.Index(data[at:], magic)
			if i < 0 {
				return data
			}
			at += i
			version := data[at+len(magic):]
			binary.LittleEndian.PutUint32(version, binary.LittleEndian.Uint32(version)+1)
		}
	})
}

func edit(ts *testscript.TestScript, file string, change func([]byte) []byte) {
	path := ts.MkAbs(file)
	data, err := os.ReadFile(path)
	ts.Check(err)
	ts.Check(os.WriteFile(path, change(data), 0o644))
}

// boltfile FILE writes the first pages of a bbolt store: two meta pages, a free list and a leaf, as bbolt makes them.
func scriptBoltFile(ts *testscript.TestScript, neg bool, args []string) {
	const pageSize = 4096
	le := binary.LittleEndian
	data := make([]byte, 4*pageSize)
	for i, flags := range []uint16{0x04, 0x04, 0x10, 0x02} {
		page := data[i*pageSize:]
		le.PutUint64(page, uint64(i))
		le.PutUint16(page[8:], flags)
		if i < 2 {
			meta := page[16:]
			le.PutUint32(meta, 0xED0CDAED) // magic
			le.PutUint32(meta[4:], 2)      // version
			le.PutUint32(meta[8:], pageSize)
			le.PutUint64(meta[16:], 3) // root bucket
			le.PutUint64(meta[32:], 2) // free list
			le.PutUint64(meta[40:], 4) // high water mark
			le.PutUint64(meta[48:], uint64(i))
		}
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), data, 0o644))
}

// fifo FILE makes a named pipe; see the condition [fifo].
func scriptFifo(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(mkfifo(ts.MkAbs(args[0])))
}

// tmpfs DIR SIZE mounts a memory file system of limited size on a new directory; see the condition [tmpfs].
func scriptTmpfs(ts *testscript.TestScript, neg bool, args []string) {
	dir := ts.MkAbs(args[0])
	ts.Check(os.Mkdir(dir, 0o755))
	unmount, err := mountTmpfs(dir, args[1])
	ts.Check(err)
	ts.Defer(unmount)
}

// canMountTmpfs tries it.
func canMountTmpfs(t *testing.T) bool {
	if mountTmpfs == nil {
		return false
	}
	unmount, err := mountTmpfs(t.TempDir(), "64k")
	if err != nil {
		t.Logf("mounting a tmpfs: %v", err)
		return false
	}
	unmount()
	return true
}

// What only some systems have; see the _unix and _linux files.
var (
	mkfifo     func(path string) error
	mountTmpfs func(dir, size string) (unmount func(), err error)
)

// holdStore is the program holdstore DB: it keeps a store open for writing, says so by a file DB.held, and ends when DB.release
// appears.
func holdStore() {
	path := os.Args[1]
	db, err := alder.Open(path, 0o644, nil)
	if err == nil {
		err = os.WriteFile(path+".held", nil, 0o644)
	}
	for deadline := time.Now().Add(time.Minute); err == nil && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if _, statErr := os.Stat(path + ".release"); statErr == nil {
			break
		}
	}
	if err == nil {
		err = db.Close()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
