package engine

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/alderdb/alder/bench/internal/lmdb"
)

func init() {
	Register(&Engine{
		Name:     "lmdb-c",
		Version:  lmdb.Version,
		Settings: "LMDB read by a C program (cc -O2), without cgo; read transactions renewed",
		DataOf:   "lmdb",
		OnDemand: true,
		Missing:  missingForC,
		Program:  runC,
	})
}

func missingForC() string {
	if err := lmdb.Available(); err != nil {
		return err.Error()
	}
	if _, err := exec.LookPath("cc"); err != nil {
		return "there is no C compiler named cc"
	}
	return ""
}

// runC compiles the program and runs it. Compiling takes a quarter of a second, so nothing is kept.
func runC(spec ProgramSpec) (output []byte, err error) {
	dir, err := os.MkdirTemp("", "alder-bench-cc-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.CopyFS(dir, lmdb.Reader); err != nil {
		return nil, err
	}
	program := filepath.Join(dir, "read")
	source := filepath.Join(dir, "creader", "read.c")
	if _, err := capture(exec.Command("cc", "-O2", "-pthread", "-o", program, source, "-ldl")); err != nil {
		return nil, err
	}
	sorted := 0
	if spec.Sorted {
		sorted = 1
	}
	return capture(exec.Command(program,
		"dir="+spec.Dir, "work="+spec.Work,
		fmt.Sprint("threads=", spec.Goroutines), fmt.Sprint("records=", spec.Records),
		fmt.Sprint("key=", spec.KeySize), fmt.Sprint("value=", spec.ValueSize), fmt.Sprint("sorted=", sorted),
		fmt.Sprint("pertx=", spec.PerTx), fmt.Sprint("limit=", spec.Limit),
		fmt.Sprint("keyseed=", spec.KeySeed), fmt.Sprint("valueseed=", spec.ValueSeed),
		fmt.Sprint("seed=", spec.Seed), fmt.Sprint("seconds=", spec.Seconds), fmt.Sprint("warm=", spec.WarmSeconds),
	))
}

// capture returns what a command prints, with what it complains of in the error.
func capture(command *exec.Cmd) ([]byte, error) {
	var complaint bytes.Buffer
	command.Stderr = &complaint
	output, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", filepath.Base(command.Path), err, bytes.TrimSpace(complaint.Bytes()))
	}
	return output, nil
}
