package data

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Table is a Set of records that lie in memory: real data.
type Table struct {
	keys   []string
	values [][]byte
}

func (t *Table) Len() int         { return len(t.keys) }
func (t *Table) Extensible() bool { return false }

func (t *Table) Key(i int, buf []byte) []byte { return append(buf[:0], t.keys[i]...) }

// Value is never nil: nil is "no value" to some engines.
func (t *Table) Value(i int, _ uint64, buf []byte) []byte {
	if buf == nil {
		buf = []byte{}
	}
	return append(buf[:0], t.values[i]...)
}

func (t *Table) Expect(i int, c *Check) {
	c.head, c.length = head64(t.values[i]), len(t.values[i])
}

func (t *Table) Verify(i int, value []byte) error {
	if !bytes.Equal(value, t.values[i]) {
		return fmt.Errorf("the value of %q differs", t.keys[i])
	}
	return nil
}

// Sort puts the records into the order of their keys, for a sorted load.
func (t *Table) Sort() {
	order := t.order()
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(t.keys[a], t.keys[b]) })
	t.arrange(order)
}

// Shuffle puts the records into an order that looks random but is always the same, for a random load.
func (t *Table) Shuffle(seed uint64) {
	order := t.order()
	rng := NewRand(seed)
	for i := len(order) - 1; i > 0; i-- {
		j := int(rng.Below(uint64(i + 1)))
		order[i], order[j] = order[j], order[i]
	}
	t.arrange(order)
}

func (t *Table) order() []int {
	order := make([]int, len(t.keys))
	for i := range order {
		order[i] = i
	}
	return order
}

func (t *Table) arrange(order []int) {
	keys, values := make([]string, len(order)), make([][]byte, len(order))
	for to, from := range order {
		keys[to], values[to] = t.keys[from], t.values[from]
	}
	t.keys, t.values = keys, values
}

// Tree returns the regular files under root: path relative to root → content.
func Tree(root string) (*Table, error) {
	t := &Table{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		t.keys = append(t.keys, filepath.ToSlash(name))
		t.values = append(t.values, content)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the tree %s: %w", root, err)
	}
	if len(t.keys) == 0 {
		return nil, fmt.Errorf("no files under %s", root)
	}
	return t, nil
}

// longestWord leaves out encoded tables, which some engines do not take as keys.
const longestWord = 128

// Words returns the distinct words (letters, digits and underscores) of the Go files under root, each with the
// number of times it occurs as its value.
func Words(root string) (*Table, error) {
	counts := make(map[string]uint64)
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || !strings.HasSuffix(path, ".go") {
			return err
		}
		return countWords(path, counts)
	})
	if err != nil {
		return nil, fmt.Errorf("reading the words of %s: %w", root, err)
	}
	if len(counts) == 0 {
		return nil, fmt.Errorf("no words in Go files under %s", root)
	}
	t := &Table{}
	for word, count := range counts {
		t.keys = append(t.keys, word)
		t.values = append(t.values, binary.BigEndian.AppendUint64(nil, count))
	}
	t.Sort() // a map's order differs from run to run
	return t, nil
}

func countWords(path string, counts map[string]uint64) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(make([]byte, 1<<16), 1<<26)
	isSeparator := func(r rune) bool {
		return r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}
	for lines.Scan() {
		for _, word := range strings.FieldsFunc(lines.Text(), isSeparator) {
			if len(word) <= longestWord {
				counts[word]++
			}
		}
	}
	return lines.Err()
}
