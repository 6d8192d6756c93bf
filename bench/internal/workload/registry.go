package workload

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/alderdb/alder/bench/internal/engine"
)

// StoreKind says which store a workload wants.
type StoreKind int

const (
	// Empty is a directory without a store.
	Empty StoreKind = iota
	// Shared is a loaded store that no trial changes.
	Shared
	// Worn is a loaded store whose values the trials of a round overwrite one after the other.
	Worn
	// Own is a copy of a loaded store, for this trial alone.
	Own
)

// Workload is one thing to measure.
type Workload struct {
	ID    string
	Title string
	Store StoreKind
	// Scale multiplies the records of the round: 10 where GOALS.md says 10 M beside 1 M.
	Scale int
	// Shrinks says that Params.Records are those of a round of a million records, and fewer where the round has fewer.
	Shrinks bool
	// Params are the workload's own; the round's go over them.
	Params Params
	// Main names the measure that charts show, with More where larger is better.
	Main string
	More bool
	// With names on-demand engines that take part; Without says why an engine does not.
	With    []string
	Without func(*engine.Engine) string
	// Peers are the engines whose figures alder's goals are measured against, beside bbolt, with which all are
	// compared. They and alder are the last that a round with little time leaves out.
	Peers []string
	// Prepared names a preparation of the store that goes beyond loading the records, see preparations.
	Prepared string
	// Long workloads run for their own time, whatever the round's is.
	Long bool
	// Once workloads are not repeated: sizes that come out the same each time, and what takes minutes.
	Once bool
	Run  func(*Trial) error
}

var registry []*Workload

func register(ws ...*Workload) { registry = append(registry, ws...) }

// families are the first words of the workloads' names in the order of reports.
var families = []string{"R", "W", "S", "YCSB", "GO", "WORDS"}

// All returns the workloads in the order of reports: by family and number, R1, R2 ... R11, W1 ...
func All() []*Workload {
	all := slices.Clone(registry)
	slices.SortStableFunc(all, func(a, b *Workload) int {
		x, y := rankOf(a.ID), rankOf(b.ID)
		return cmp.Or(cmp.Compare(x.family, y.family), cmp.Compare(x.number, y.number))
	})
	return all
}

type rank struct{ family, number int }

func rankOf(id string) rank {
	word := strings.TrimRight(strings.SplitN(id, "-", 2)[0], "0123456789")
	r := rank{family: slices.Index(families, word)}
	// No number at all (YCSB-A) leaves 0: those stay in the order of their registration.
	_, _ = fmt.Sscanf(id[len(word):], "%d", &r.number)
	return r
}

// Find returns the workload of a name; a variant such as R1@g=4 is the workload of its base name.
func Find(name string) (*Workload, error) {
	base, _, _ := strings.Cut(name, "@")
	for _, w := range registry {
		if strings.EqualFold(w.ID, base) {
			return w, nil
		}
	}
	return nil, fmt.Errorf("no workload %q", base)
}

// Resolve returns a workload and the parameters of a named variant: the defaults, the round's records, the
// workload's own parameters, what the user set for the round, and what the variant sets, each over those before.
func Resolve(name string, round Params) (*Workload, Params, error) {
	w, err := Find(name)
	if err != nil {
		return nil, Params{}, err
	}
	p := Defaults().Over(round).Over(w.Params)
	if w.Params.Records == 0 {
		p.Records *= max(1, w.Scale)
	}
	if usual := Defaults().Records; w.Shrinks && round.Records != 0 && round.Records < usual {
		p.Records = max(100, w.Params.Records*round.Records/usual)
	}
	if !w.Long && round.Seconds != 0 {
		p.Seconds = round.Seconds
	}
	_, variant, _ := strings.Cut(name, "@")
	for _, knob := range strings.FieldsFunc(variant, func(r rune) bool { return r == ',' }) {
		key, value, ok := strings.Cut(knob, "=")
		if !ok {
			return nil, Params{}, fmt.Errorf("%s: %q is not of the form knob=value", name, knob)
		}
		if err := p.Set(key, value); err != nil {
			return nil, Params{}, fmt.Errorf("%s: %w", name, err)
		}
	}
	if round.CacheBytes == 0 {
		p.CacheBytes = max(p.CacheBytes, 2*int64(p.Records)*int64(p.KeySize+p.ValueSize)) // one that holds the data
	}
	return w, p, nil
}

// TakesPart reports whether an engine runs a workload when the user names no engines, and why not.
func (w *Workload) TakesPart(e *engine.Engine, p Params) (ok bool, why string) {
	if w.Without != nil {
		if why := w.Without(e); why != "" {
			return false, why
		}
	}
	if e.MaxRecords > 0 && p.Records > e.MaxRecords {
		return false, e.MaxReason
	}
	if p.PageSize != 0 && !e.PageSizes {
		return false, "the size of its pages is no choice"
	}
	return true, ""
}

// Needs reports whether a verdict over alder depends on an engine's figure.
func (w *Workload) Needs(engine string) bool {
	return engine == "alder" || engine == "bbolt" || slices.Contains(w.Peers, engine)
}

// StoreKey names what a prepared store contains, for workloads that want one.
func (w *Workload) StoreKey(p Params) string {
	if w.Prepared != "" {
		return p.StoreKey() + "-" + w.Prepared
	}
	return p.StoreKey()
}
