package main

import (
	"time"

	"github.com/schollz/progressbar/v3"
)

// progress is a bar on standard error with rate and time left. Where standard error is not a terminal, or with --quiet,
// it is nil and its methods do nothing.
type progress struct {
	bar  *progressbar.ProgressBar
	step int64 // the bar is told of changes at least this large
	last int64
}

// unit is what a progress bar counts.
type unit string

const (
	unitBytes unit = "bytes"
	unitPages unit = "pages"
	unitKeys  unit = "keys"

	unitTransactions unit = "transactions"
)

// showsProgress reports whether there is anybody to show a bar to.
func (c *cli) showsProgress() bool { return !c.quiet && isTerminal(c.stderr) }

// startProgress shows a bar for work of a known size; a total below zero is an unknown one.
func (c *cli) startProgress(what string, total int64, of unit) *progress {
	if !c.showsProgress() {
		return nil
	}
	options := []progressbar.Option{
		progressbar.OptionSetWriter(c.stderr),
		progressbar.OptionSetDescription(what),
		progressbar.OptionThrottle(100 * time.Millisecond),
		progressbar.OptionSetRenderBlankState(true), // a rate is worth showing only after the first interval
		progressbar.OptionFullWidth(),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionShowCount(),
	}
	if of == unitBytes {
		options = append(options, progressbar.OptionShowBytes(true), progressbar.OptionUseIECUnits(true), progressbar.OptionShowTotalBytes(true))
	} else {
		options = append(options, progressbar.OptionShowIts(), progressbar.OptionSetItsString(string(of)))
	}
	return &progress{bar: progressbar.NewOptions64(total, options...), step: min(max(total/1000, 1), 1<<16)}
}

// startTimer shows a bar for work that takes a known time; 0 is an unknown one.
func (c *cli) startTimer(what string, takes time.Duration) *progress {
	if !c.showsProgress() {
		return nil
	}
	total := int64(takes)
	if total == 0 {
		total = -1
	}
	return &progress{bar: progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(c.stderr),
		progressbar.OptionSetDescription(what),
		progressbar.OptionSetRenderBlankState(true),
		progressbar.OptionFullWidth(),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionClearOnFinish(),
	)}
}

// describe shows how far the work of a timer is.
func (p *progress) describe(text string, passed time.Duration) {
	if p != nil {
		p.bar.Describe(text)
		_ = p.bar.Set64(int64(passed)) // fails at the very end, which is of no consequence
	}
}

// set shows that n of the total are done. It may be called very often.
func (p *progress) set(n int64) {
	if p == nil || n-p.last < p.step {
		return
	}
	p.last = n
	_ = p.bar.Set64(n) // fails where n is beyond the total, which is of no consequence
}

// resize changes the total, where it is known only as the work goes on.
func (p *progress) resize(total int64) {
	if p != nil && total > 0 && total != p.bar.GetMax64() {
		p.bar.ChangeMax64(total)
		p.step = min(max(total/1000, 1), 1<<16)
	}
}

// finish removes the bar.
func (p *progress) finish() {
	if p != nil {
		_ = p.bar.Exit()
		_ = p.bar.Clear()
	}
}
