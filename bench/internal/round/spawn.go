package round

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/alderdb/alder/bench/internal/measure"
	"github.com/alderdb/alder/bench/internal/workload"
)

// TrialCommand is the argument that makes the program run one trial: the spec comes on its standard input, the
// result goes to its standard output.
const TrialCommand = "trial"

// errNotDone is the error of a trial that was ended.
var errNotDone = errors.New("not done")

// Spawn runs a trial in a process of its own.
func Spawn(ctx context.Context, spec workload.Spec, timeout time.Duration) (*workload.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	input, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	command := exec.CommandContext(ctx, program, TrialCommand)
	command.Stdin = bytes.NewReader(input)
	var output, complaint bytes.Buffer
	command.Stdout, command.Stderr = &output, &complaint
	command.WaitDelay = 5 * time.Second
	inOwnGroup(command)
	if err := command.Run(); err != nil {
		endGroup(command)
		if command.Process != nil {
			measure.Sweep(command.Process.Pid)
		}
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return nil, fmt.Errorf("%w after %v", errNotDone, timeout.Round(time.Second))
		}
		return nil, fmt.Errorf("the trial's process: %w: %s", err, tail(complaint.Bytes()))
	}
	result := &workload.Result{}
	if err := json.Unmarshal(output.Bytes(), result); err != nil {
		return nil, fmt.Errorf("the trial printed %q: %w", tail(output.Bytes()), err)
	}
	return result, nil
}

func tail(text []byte) []byte {
	const most = 2000
	text = bytes.TrimSpace(text)
	if len(text) > most {
		return text[len(text)-most:]
	}
	return text
}

// RunTrial is the other side of Spawn.
func RunTrial() error {
	var spec workload.Spec
	if err := json.NewDecoder(os.Stdin).Decode(&spec); err != nil {
		return fmt.Errorf("reading the spec: %w", err)
	}
	// What an engine prints must not mix with the result.
	out := os.Stdout
	os.Stdout = os.Stderr
	if spec.Helper != "" {
		return workload.RunHelper(spec, out)
	}
	return json.NewEncoder(out).Encode(workload.Run(spec))
}
