//go:build !cgo

package engine

import "errors"

func init() {
	const why = "this program was built without cgo, which mattn/go-sqlite3 needs"
	Register(&Engine{
		Name:     "sqlite",
		Version:  func() string { return "missing" },
		Settings: "WAL, synchronous=FULL",
		Missing:  func() string { return why },
		Open:     func(Config) (Store, error) { return nil, errors.New(why) },
	})
}
