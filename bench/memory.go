package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/alderdb/alder/bench/internal/measure"
	"github.com/alderdb/alder/bench/internal/workload"
)

// memoryCommand prints what a walk from page to page of a mapped file waits for, for files of several sizes.
func memoryCommand(_ context.Context, args []string) error {
	f := flag.NewFlagSet("memory", flag.ContinueOnError)
	dir := f.String("dir", os.TempDir(), "directory for the file")
	sizes := f.String("n", "10k,100k,1M,10M", "files as large as stores of so many records")
	record := f.Int("record", 160, "bytes of such a store for each record")
	seconds := f.Float64("seconds", 0.5, "time for each figure")
	if err := f.Parse(args); err != nil {
		return parseError(err)
	}
	if f.NArg() > 0 {
		return fmt.Errorf("%w: memory takes no arguments", errUsage)
	}
	var records []int
	for _, text := range split(*sizes) {
		n, err := workload.Count(text)
		if err != nil {
			return fmt.Errorf("%w: -n: %v", errUsage, err)
		}
		records = append(records, n)
	}
	if len(records) == 0 || *record < 1 || !(*seconds > 0) {
		return fmt.Errorf("%w: -n, -record and -seconds must be positive", errUsage)
	}
	return printChases(os.Stdout, *dir, records, *record, time.Duration(*seconds*float64(time.Second)))
}

func printChases(to io.Writer, dir string, records []int, record int, d time.Duration) error {
	w := tabwriter.NewWriter(to, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "records\tMB\t")
	for lines := 1; lines <= measure.ChaseLines; lines++ {
		fmt.Fprintf(w, "%d %s\t", lines, plural("line", lines))
	}
	fmt.Fprintln(w)
	for _, n := range records {
		size := int64(n) * int64(record)
		figures, err := chase(dir, size, d)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%d\t%.1f\t%s\t\n", n, float64(size)/1e6, strings.Join(figures, "\t"))
	}
	fmt.Fprintln(w)
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(to, "ns for each page, of which so many cache lines are read, each known only when the one before has come")
	return err
}

func chase(dir string, size int64, d time.Duration) (figures []string, err error) {
	dir, err = os.MkdirTemp(dir, "alder-bench-memory-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	c, err := measure.NewChase(dir, size)
	if err != nil {
		return nil, err
	}
	for lines := 1; lines <= measure.ChaseLines; lines++ {
		figures = append(figures, fmt.Sprintf("%.0f", c.Walk(lines, d)))
	}
	return figures, c.Close()
}

func plural(word string, n int) string {
	if n == 1 {
		return word
	}
	return word + "s"
}
