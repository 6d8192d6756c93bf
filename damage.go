package alder

import (
	"fmt"
	"strings"
)

// Damage says what a damaged page held, and what is lost with it. Tx.Check yields it as an error for each such page, and Salvage reports
// what it could not read with it. It matches what Err matches: ErrCorrupt for damaged bytes, or a *FaultError for a page that
// cannot be read at all.
type Damage struct {
	Page   uint64     // number of the page, or of the first one of an overflow run
	Kind   DamageKind // what it held
	Bucket [][]byte   // names that lead to the bucket it is part of; none: the bucket at the top, whose keys are bucket names

	// The keys that are lost are at or above From and below To; nil is no bound. A nested bucket is lost with all that is in it.
	From, To []byte

	// Keys is how many are lost, as the pages above have counted; nested buckets count as one. -1: nobody has counted.
	Keys int64

	Err error // what is wrong with the page

	key func([]byte) string // how keys appear in the text; nil: as Go string literals
}

// DamageKind is what a damaged page held.
type DamageKind string

// Kinds of pages, as Damage names them.
const (
	DamagedLeaf      DamageKind = "leaf"
	DamagedBranch    DamageKind = "branch"
	DamagedTree      DamageKind = "branch or leaf" // it cannot be told which
	DamagedKey       DamageKind = "long key"       // an overflow run; From has the bytes of the key that lie elsewhere
	DamagedValue     DamageKind = "long value"     // an overflow run; From is its key
	DamagedSeparator DamageKind = "long separator" // an overflow run; no key is lost, but the way to the keys from From to To is
	DamagedMap       DamageKind = "free map"       // no key is lost, but the store cannot be written safely
	DamagedMeta      DamageKind = "meta"           // From, To and Keys say nothing
	DamagedLog       DamageKind = "redo log"       // the transactions from there on are lost; From, To and Keys say nothing
)

// Unwrap returns what is wrong with the page.
func (d *Damage) Unwrap() error { return d.Err }

// Error says it in a sentence.
func (d *Damage) Error() string { return fmt.Sprintf("%v; %s", d.Err, d.Loss()) }

// Loss says in words what the page held and what is lost, without what is wrong with it.
func (d *Damage) Loss() string {
	switch d.Kind {
	case DamagedMap:
		return "it held a part of the free map: no key is lost, but the store cannot be written safely"
	case DamagedMeta:
		return "it held a meta page"
	case DamagedLog:
		return "it held a part of the redo log: what transactions from there on have done is lost"
	}
	text := fmt.Sprintf("it held a %s of %s", d.Kind, d.bucketText())
	switch {
	case d.Kind == DamagedKey:
		return text + fmt.Sprintf(": one key is lost, that begins with %s", d.keyText(d.From))
	case d.Kind == DamagedValue:
		return text + fmt.Sprintf(": that of key %s is lost", d.keyText(d.From))
	case d.Kind == DamagedSeparator:
		return text + ": no key is lost, but some cannot be found" + d.rangeText()
	case d.Keys == 0:
		return text + ": no key is lost"
	case d.Keys == 1:
		return text + ": 1 key is lost" + d.rangeText()
	case d.Keys > 0:
		return text + fmt.Sprintf(": %d keys are lost%s", d.Keys, d.rangeText())
	case d.From == nil && d.To == nil:
		return text + ": all its keys are lost"
	}
	return text + ": keys are lost" + d.rangeText()
}

func (d *Damage) rangeText() string {
	text := ""
	if d.From != nil {
		text = ", from " + d.keyText(d.From)
	}
	if d.To != nil {
		if text == "" {
			text = ","
		}
		text += " up to, without, " + d.keyText(d.To)
	}
	return text
}

// longKeyText is the number of bytes of a key that appear in a message.
const longKeyText = 64

func (d *Damage) keyText(key []byte) string {
	short, more := key, ""
	if len(key) > longKeyText {
		short, more = key[:longKeyText], "…"
	}
	if d.key == nil {
		return fmt.Sprintf("%q%s", short, more)
	}
	return d.key(short) + more
}

func (d *Damage) bucketText() string {
	if len(d.Bucket) == 0 {
		return "the top bucket"
	}
	names := make([]string, len(d.Bucket))
	for i, name := range d.Bucket {
		names[i] = d.keyText(name)
	}
	return "bucket " + strings.Join(names, "/")
}
