package workload

import (
	"fmt"
	"io"
)

// helpers are parts of workloads that run in a process of their own, for instance to be killed.
var helpers = map[string]func(*Trial) error{}

// RunHelper runs a helper, which writes to ready when it has begun; its result is what it leaves in the store.
func RunHelper(spec Spec, ready io.Writer) error {
	f, ok := helpers[spec.Helper]
	if !ok {
		return fmt.Errorf("no helper %q", spec.Helper)
	}
	t, err := newTrial(spec, &Result{})
	if err != nil {
		return err
	}
	t.ready = ready
	return f(t)
}
