package data

import (
	"encoding/gob"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// CachedWords is Words, which takes seconds for a large tree, or what an earlier call has left in the directory
// cache. It leaves what it has read there; without a directory it keeps nothing.
func CachedWords(root, cache string) (*Table, error) {
	if cache == "" {
		return Words(root)
	}
	path := filepath.Join(cache, "words.gob")
	t, err := readTable(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return t, err
	}
	if t, err = Words(root); err != nil {
		return nil, err
	}
	return t, t.write(path)
}

// kept is the form of a table in a file.
type kept struct {
	Keys   []string
	Values [][]byte
}

func readTable(path string) (*Table, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var k kept
	if err := gob.NewDecoder(file).Decode(&k); err != nil {
		return nil, err
	}
	return &Table{keys: k.Keys, values: k.Values}, nil
}

// write writes the table under another name first: a trial that is ended meanwhile leaves no half of it.
func (t *Table) write(path string) error {
	file, err := os.CreateTemp(filepath.Dir(path), "words-")
	if err != nil {
		return err
	}
	err = gob.NewEncoder(file).Encode(kept{t.keys, t.values})
	if err := errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return os.Rename(file.Name(), path)
}
