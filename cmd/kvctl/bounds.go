package main

import (
	"bytes"

	"github.com/spf13/cobra"

	"github.com/alderdb/alder"
)

// boundsFlags are --prefix, --from and --to; a command that has several of them takes the keys that satisfy all.
type boundsFlags struct {
	prefix, from, to string
	cmd              *cobra.Command
	encoding         *encodingFlag
}

func addBoundsFlags(cmd *cobra.Command, encoding *encodingFlag) *boundsFlags {
	b := &boundsFlags{cmd: cmd, encoding: encoding}
	flags := cmd.Flags()
	flags.StringVar(&b.prefix, "prefix", "", "only keys that begin with `KEY`")
	flags.StringVar(&b.from, "from", "", "only keys from `KEY` on")
	flags.StringVar(&b.to, "to", "", "only keys before `KEY`")
	return b
}

// keyRange is the keys from `from` on and before `to`; nil is no bound. It is empty where empty says so.
type keyRange struct {
	from, to []byte
	empty    bool
}

// given reports whether any of the flags was.
func (b *boundsFlags) given() bool {
	flags := b.cmd.Flags()
	return flags.Changed("prefix") || flags.Changed("from") || flags.Changed("to")
}

// parse returns the keys that the flags select.
func (b *boundsFlags) parse() (r keyRange, err error) {
	if r.from, err = b.parseFlag("from", b.from); err != nil {
		return r, err
	}
	if r.to, err = b.parseFlag("to", b.to); err != nil {
		return r, err
	}
	prefix, err := b.parseFlag("prefix", b.prefix)
	if err != nil {
		return r, err
	}
	if len(prefix) > 0 {
		if bytes.Compare(prefix, r.from) > 0 {
			r.from = prefix
		}
		if end := alder.PrefixEnd(prefix); end != nil && (r.to == nil || bytes.Compare(end, r.to) < 0) {
			r.to = end
		}
	}
	r.empty = r.to != nil && bytes.Compare(r.from, r.to) >= 0
	return r, nil
}

// parseFlag returns the key of one flag, nil where it was not given. An empty key is refused: it is most likely
// a variable of a script that was never set, and would select every key.
func (b *boundsFlags) parseFlag(name, text string) ([]byte, error) {
	if !b.cmd.Flags().Changed(name) {
		return nil, nil
	}
	key, err := b.encoding.Decode([]byte(text))
	if err != nil {
		return nil, usageErrorf("--%s %s: %w; see --key-format", name, text, err)
	}
	if len(key) == 0 {
		return nil, usageErrorf("--%s is empty; leave it out for no bound", name)
	}
	return key, nil
}
