package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
)

// withStdout gives fn a buffered standard output and flushes it, also when fn fails: what was read before a failure
// is worth printing.
func (c *cli) withStdout(fn func(out *bufio.Writer) error) error {
	out := bufio.NewWriterSize(c.namedStdout(), 64<<10)
	err := fn(out)
	if flushErr := out.Flush(); !errors.Is(err, flushErr) {
		return errors.Join(err, flushErr)
	}
	return err
}

func (c *cli) namedStdout() io.Writer { return &namedWriter{c.stdout, "standard output"} }

// fact is one line of a report.
type fact struct {
	name  string
	value any
}

// printFacts writes a report: aligned lines, or one JSON object that encodes v.
func (c *cli) printFacts(v any, facts ...fact) error {
	return c.withStdout(func(out *bufio.Writer) error {
		if c.json {
			return writeJSON(out, v)
		}
		table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		for _, f := range facts {
			fmt.Fprintf(table, "%s:\t%v\n", f.name, f.value)
		}
		return table.Flush()
	})
}

// printValue writes a report of a single value, or v as JSON.
func (c *cli) printValue(v, value any) error {
	return c.withStdout(func(out *bufio.Writer) error {
		if c.json {
			return writeJSON(out, v)
		}
		_, err := fmt.Fprintln(out, value)
		return err
	})
}

// writeJSON writes v on one line.
func writeJSON(out io.Writer, v any) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

// formatSize writes a number of bytes in the largest unit that keeps it above one.
func formatSize(n int64) string {
	for _, unit := range sizeUnits[:3] {
		if n >= unit.size {
			text := strconv.FormatFloat(float64(n)/float64(unit.size), 'f', 1, 64)
			return strings.TrimSuffix(text, ".0") + " " + unit.name
		}
	}
	return strconv.FormatInt(n, 10) + " B"
}

// sizeFact is a size for a report: rounded, and exact in parentheses.
func sizeFact(n int64) string {
	if n < 1<<10 {
		return formatSize(n)
	}
	return formatSize(n) + " (" + grouped(n) + " bytes)"
}

// grouped writes a number with a comma between every three digits.
func grouped[N int | int64 | uint64](n N) string {
	digits := strconv.FormatUint(uint64(n), 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// counted writes a number with its noun: "1 key", "2 keys".
func counted[N int | int64 | uint64](n N, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return grouped(n) + " " + noun
}
