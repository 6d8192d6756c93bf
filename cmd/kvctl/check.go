package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/spf13/cobra"

	"github.com/alderdb/alder"
)

const checkLong = `Check reads every page of a store and verifies its checksum, the order and
bounds of its keys, the counts in its branches, and that each page is used
exactly once or free. It prints each fault on a line and then fails with exit
code 4. The line of a damaged page says what it held and which keys are lost
with it; what hangs on a lost page is not counted twice.

A store that is too damaged to be opened is checked without its free map, as
far as its pages can be read. kvctl salvage rebuilds a store from the rest.`

const checkExample = `  kvctl check app.alder
  kvctl check app.alder --json`

type checkResult struct {
	OK       bool           `json:"ok"`
	Pages    int64          `json:"pages"`
	Errors   []string       `json:"errors"`
	Damage   []damageResult `json:"damage,omitempty"` // the damaged pages, which are among the errors
	LostKeys int64          `json:"lost_keys,omitempty"`
	Unknown  bool           `json:"lost_uncounted,omitempty"` // more keys are lost, that nobody has counted
}

type checkCommand struct {
	*cli
	most countFlag
}

func newCheckCommand(c *cli) *cobra.Command {
	k := &checkCommand{cli: c, most: 100}
	cmd := &cobra.Command{
		Use:               "check DB",
		Short:             "Verify every page of a store",
		Long:              checkLong,
		Example:           checkExample,
		Args:              between(1, 1),
		ValidArgsFunction: c.completeArguments,
		RunE:              func(cmd *cobra.Command, args []string) error { return k.run(cmd.Context(), args[0]) },
	}
	cmd.Flags().Var(&k.most, "max-errors", "stop after `N` faults (0: never)")
	c.addJSONFlag(cmd, "print a JSON object")
	return cmd
}

func (k *checkCommand) run(ctx context.Context, store string) error {
	result := checkResult{Errors: []string{}}
	opened := false
	err := k.view(ctx, store, func(tx *alder.Tx) error {
		opened = true
		return k.check(ctx, tx, &result)
	})
	// A store too damaged to be opened is a fault like others. So is one that View finds for itself, if nothing
	// else was found.
	if codeOf(err) == exitCorrupt && len(result.Errors) == 0 {
		result.Errors = append(result.Errors, err.Error())
	} else if errors.Is(err, alder.ErrInvalid) && !errors.Is(err, alder.ErrBoltFile) {
		return advisedError{fmt.Errorf("%w; if it was a store, kvctl salvage looks for what is left of it", err)}
	} else if err != nil && codeOf(err) != exitCorrupt {
		return err
	}
	if !opened {
		if err := k.examine(ctx, store, &result); err != nil {
			return err
		}
	}
	result.OK = len(result.Errors) == 0
	if err := k.print(store, result); err != nil || result.OK {
		return err
	}
	return errSilent{&codedError{exitCorrupt, errors.New("the store is damaged")}}
}

// bar returns a function that shows progress, and one that removes the bar.
func (k *checkCommand) bar(store string) (advance func(done, total int64), finish func()) {
	var bar *progress
	var once sync.Once
	advance = func(done, total int64) {
		once.Do(func() { bar = k.startProgress("checking "+filepath.Base(store), total, unitPages) })
		bar.set(done)
	}
	return advance, func() { bar.finish() }
}

func (k *checkCommand) check(ctx context.Context, tx *alder.Tx, result *checkResult) error {
	advance, finish := k.bar(storeName(tx))
	defer finish()
	count := func(done, total int64) {
		result.Pages = total
		advance(done, total)
	}
	for err := range tx.Check(alder.WithContext(ctx), alder.WithProgress(count)) {
		if errors.Is(err, context.Canceled) {
			return interruptedErrorf("%s is not checked in full", storeName(tx))
		}
		result.add(err)
		if countFlag(len(result.Errors)) == k.most {
			break
		}
	}
	return nil
}

// add takes one fault into the result.
func (r *checkResult) add(err error) {
	var d *alder.Damage
	if !errors.As(err, &d) {
		r.Errors = append(r.Errors, err.Error())
		return
	}
	r.Errors = append(r.Errors, damageLine(d))
	r.Damage = append(r.Damage, newDamageResult(d))
	if d.Keys > 0 {
		r.LostKeys += d.Keys
	}
	r.Unknown = r.Unknown || d.Keys < 0
}

// examine looks at a store that cannot be opened, page by page.
func (k *checkCommand) examine(ctx context.Context, store string, result *checkResult) error {
	advance, finish := k.bar(store)
	defer finish()
	report, err := alder.Salvage(ctx, store, nil, &alder.SalvageOptions{Timeout: k.timeout, Progress: advance})
	if errors.Is(err, context.Canceled) {
		return interruptedErrorf("%s is not checked in full", store)
	}
	if err != nil {
		return nil // why it cannot be opened has been said
	}
	result.Pages = report.Pages
	for _, d := range report.Damage {
		if k.most == 0 || countFlag(len(result.Errors)) < k.most {
			result.add(d)
		}
	}
	result.LostKeys, result.Unknown = report.Lost, report.Unknown
	return nil
}

func (k *checkCommand) print(store string, result checkResult) error {
	return k.withStdout(func(out *bufio.Writer) error {
		switch {
		case k.json:
			return writeJSON(out, result)
		case result.OK && !k.quiet:
			fmt.Fprintf(out, "%s: no faults in %s\n", store, counted(result.Pages, "page"))
		}
		for _, text := range result.Errors {
			fmt.Fprintln(out, text)
		}
		switch n := len(result.Errors); {
		case n == 0:
		case countFlag(n) == k.most:
			fmt.Fprintf(out, "stopped after %s; --max-errors 0 finds all\n", counted(n, "fault"))
		case !k.quiet:
			fmt.Fprintf(out, "%s: %s, %s; kvctl salvage rebuilds a store from the rest\n", store, counted(n, "fault"), lostKeys(result.LostKeys, result.Unknown))
		}
		return nil
	})
}
