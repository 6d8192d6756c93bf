package main

import (
	"fmt"
	"strings"

	"github.com/alderdb/alder"
	"github.com/alderdb/alder/internal/kvformat"
	"github.com/alderdb/alder/internal/kvpath"
)

// What check and salvage say of damaged pages.

// damageResult is a damaged page in JSON.
type damageResult struct {
	Page   uint64          `json:"page"`
	Held   string          `json:"held"`
	Bucket string          `json:"bucket"`
	From   *kvformat.Bytes `json:"from,omitempty"`
	To     *kvformat.Bytes `json:"to,omitempty"`
	Keys   *int64          `json:"keys,omitempty"` // lost; absent where nobody has counted them
	Error  string          `json:"error"`
}

func newDamageResult(d *alder.Damage) damageResult {
	r := damageResult{Page: d.Page, Held: string(d.Kind), Bucket: kvpath.Format(d.Bucket), Error: causeOf(d)}
	if d.From != nil {
		r.From = (*kvformat.Bytes)(&d.From)
	}
	if d.To != nil {
		r.To = (*kvformat.Bytes)(&d.To)
	}
	if d.Keys >= 0 {
		r.Keys = &d.Keys
	}
	return r
}

// causeOf is what is wrong with the page, without words that the line has already.
func causeOf(d *alder.Damage) string {
	text := strings.TrimPrefix(d.Err.Error(), "database is corrupt: ")
	return strings.TrimPrefix(text, fmt.Sprintf("page %d: ", d.Page))
}

// damageLine names a damaged page, what it held, and what is lost.
func damageLine(d *alder.Damage) string {
	text := fmt.Sprintf("page %d: %s; held: %s", d.Page, causeOf(d), d.Kind)
	switch d.Kind {
	case alder.DamagedMeta:
		return text
	case alder.DamagedLog:
		return text + "; lost: what transactions from there on have done"
	case alder.DamagedMap:
		return text + "; lost: no key, but the store cannot be written safely"
	}
	if len(d.Bucket) == 0 {
		text += " of the top level"
	} else {
		text += " of bucket " + kvpath.Format(d.Bucket)
	}
	switch {
	case d.Kind == alder.DamagedKey:
		return text + "; lost: the key that begins with " + shortKey(d.From)
	case d.Kind == alder.DamagedValue:
		return text + "; lost: key " + shortKey(d.From)
	case d.Kind == alder.DamagedSeparator:
		return text + "; lost: no key, but not all are found" + lostRange(d)
	case d.Keys < 0 && d.From == nil && d.To == nil:
		return text + "; lost: all its keys"
	case d.Keys < 0:
		return text + "; lost: keys" + lostRange(d)
	case d.Keys == 0:
		return text + "; lost: no key"
	}
	noun := "key"
	if len(d.Bucket) == 0 {
		noun = "bucket"
	}
	return text + "; lost: " + counted(d.Keys, noun) + lostRange(d)
}

func lostRange(d *alder.Damage) (text string) {
	if d.From != nil {
		text = " from " + shortKey(d.From)
	}
	if d.To != nil {
		text += " to before " + shortKey(d.To)
	}
	return text
}

// shortKey is the beginning of a key, in the encoding of all messages.
func shortKey(key []byte) string {
	const most = 100
	if len(key) <= most {
		return string(kvformat.Quoted.Append(nil, key))
	}
	return string(kvformat.Quoted.Append(nil, key[:most])) + "…"
}

// lostKeys sums up what is lost: "nothing", or the number of keys as far as it is known.
func lostKeys(lost int64, unknown bool) string {
	switch {
	case lost == 0 && !unknown:
		return "nothing is lost"
	case lost == 0:
		return "keys are lost that nobody has counted"
	case unknown:
		return counted(lost, "key") + " lost, and others that nobody has counted"
	}
	return counted(lost, "key") + " lost"
}
