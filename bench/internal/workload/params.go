package workload

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/alderdb/alder/bench/internal/data"
	"github.com/alderdb/alder/bench/internal/engine"
	"github.com/alderdb/alder/bench/internal/measure"
)

// Params are the knobs of a workload. The zero value of a field means "as the workload defines it".
type Params struct {
	Records      int               `json:"records,omitempty"`
	KeySize      int               `json:"key_size,omitempty"`
	ValueSize    int               `json:"value_size,omitempty"`
	Compressible float64           `json:"compressible,omitempty"`
	Data         string            `json:"data,omitempty"` // random, sorted, tree, words
	Root         string            `json:"root,omitempty"` // of the directory that tree and words read
	Goroutines   int               `json:"goroutines,omitempty"`
	PerTx        int               `json:"per_tx,omitempty"`
	Limit        int               `json:"limit,omitempty"` // records per scan
	Durability   engine.Durability `json:"durability,omitempty"`
	Distribution string            `json:"distribution,omitempty"`
	Rate         float64           `json:"rate,omitempty"` // operations per second of an open loop; 0 = closed
	Seconds      float64           `json:"seconds,omitempty"`
	Warm         float64           `json:"warm,omitempty"` // seconds before the timed part
	Cache        measure.Cache     `json:"cache,omitempty"`
	CacheBytes   int64             `json:"cache_bytes,omitempty"`
	PageSize     int               `json:"page_size,omitempty"` // of engines whose page size is a choice; 0 = their default
	Seed         uint64            `json:"seed,omitempty"`
}

// Defaults are what GOALS.md means where it says nothing else.
func Defaults() Params {
	return Params{
		Records: 1_000_000, KeySize: 16, ValueSize: 100, Data: "random",
		Goroutines: 1, PerTx: 1, Limit: 51, Durability: engine.Full, Distribution: "uniform",
		Seconds: 2, Warm: 0.5, Cache: measure.AsIs, CacheBytes: 1 << 30, Seed: 1,
	}
}

// Over returns p with the fields that are set in q taken from q.
func (p Params) Over(q Params) Params {
	set(&p.Records, q.Records)
	set(&p.KeySize, q.KeySize)
	set(&p.ValueSize, q.ValueSize)
	set(&p.Compressible, q.Compressible)
	set(&p.Data, q.Data)
	set(&p.Root, q.Root)
	set(&p.Goroutines, q.Goroutines)
	set(&p.PerTx, q.PerTx)
	set(&p.Limit, q.Limit)
	set(&p.Durability, q.Durability)
	set(&p.Distribution, q.Distribution)
	set(&p.Rate, q.Rate)
	set(&p.Seconds, q.Seconds)
	set(&p.Warm, q.Warm)
	set(&p.Cache, q.Cache)
	set(&p.CacheBytes, q.CacheBytes)
	set(&p.PageSize, q.PageSize)
	set(&p.Seed, q.Seed)
	return p
}

func set[T comparable](to *T, from T) {
	var zero T
	if from != zero {
		*to = from
	}
}

// Set changes the knob that a variant names, as in R1@g=4 or W1@cache=large.
func (p *Params) Set(name, value string) error {
	var err error
	switch name {
	case "n":
		p.Records, err = p.records(value)
	case "k":
		p.KeySize, err = count(value)
	case "v":
		p.ValueSize, err = count(value)
	case "g":
		p.Goroutines, err = count(value)
	case "tx":
		p.PerTx, err = count(value)
	case "page":
		p.PageSize, err = count(value)
	case "limit":
		p.Limit, err = count(value)
	case "rate":
		p.Rate, err = strconv.ParseFloat(value, 64)
	case "seconds":
		p.Seconds, err = strconv.ParseFloat(value, 64)
	case "compressible":
		p.Compressible, err = strconv.ParseFloat(value, 64)
	case "dist":
		p.Distribution = value
	case "data":
		p.Data = value
	case "durability":
		p.Durability = engine.Durability(value)
		if p.Durability != engine.Full && p.Durability != engine.Lazy {
			err = fmt.Errorf("it is full or lazy")
		}
	case "cache":
		p.Cache = measure.Cache(value)
		if p.Cache != measure.AsIs && p.Cache != measure.Small && p.Cache != measure.Large {
			err = fmt.Errorf("it is as-is, small or large")
		}
	default:
		return fmt.Errorf("no knob %q; there are n, k, v, g, tx, page, limit, rate, seconds, compressible, dist, data, durability, cache", name)
	}
	if err != nil {
		return fmt.Errorf("%s=%s: %w", name, value, err)
	}
	return nil
}

// records reads a number of records, or with an x behind it how many times those that are set: n=0.1x.
func (p *Params) records(text string) (int, error) {
	factor, ok := strings.CutSuffix(text, "x")
	if !ok {
		return count(text)
	}
	f, err := strconv.ParseFloat(factor, 64)
	if err != nil || !(f > 0) || f*float64(p.Records) > 1e12 {
		return 0, fmt.Errorf("%q is not a positive factor", text)
	}
	return max(1, int(f*float64(p.Records))), nil
}

// count reads a number such as 100000, 1e6, 100k or 10M.
func count(text string) (int, error) {
	scale := 1.0
	switch {
	case strings.HasSuffix(text, "k"):
		scale, text = 1e3, strings.TrimSuffix(text, "k")
	case strings.HasSuffix(text, "M"):
		scale, text = 1e6, strings.TrimSuffix(text, "M")
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || f*scale < 1 || f*scale != float64(int(f*scale)) {
		return 0, fmt.Errorf("%q is not a positive number", text)
	}
	return int(f * scale), nil
}

// Count reads a number as the knobs do.
func Count(text string) (int, error) { return count(text) }

// Content returns the records that the parameters describe. What takes long to make of a tree of files is kept in
// the directory cache, if one is given.
func (p Params) Content(cache string) (data.Set, error) {
	switch p.Data {
	case "random", "sorted":
		return data.NewSynthetic(p.Records, p.KeySize, p.ValueSize, p.Data == "sorted", p.Seed, p.Compressible)
	case "tree", "words":
		return p.realData(cache)
	}
	return nil, fmt.Errorf("no data %q; there are random, sorted, tree, words", p.Data)
}

func (p Params) realData(cache string) (data.Set, error) {
	var table *data.Table
	var err error
	if p.Data == "words" {
		table, err = data.CachedWords(p.Root, cache)
	} else {
		table, err = data.Tree(p.Root)
	}
	if err != nil {
		return nil, err
	}
	table.Shuffle(p.Seed)
	return table, nil
}

// StoreKey names the content of a prepared store: parameters with equal keys can share one.
func (p Params) StoreKey() string {
	if p.Data == "tree" || p.Data == "words" {
		return p.Data
	}
	key := fmt.Sprintf("%s-%d-%d-%d-%g-%d", p.Data, p.Records, p.KeySize, p.ValueSize, p.Compressible, p.Seed)
	if p.PageSize != 0 {
		key += fmt.Sprintf("-page%d", p.PageSize)
	}
	return key
}

func (p Params) duration() time.Duration { return seconds(p.Seconds) }
func (p Params) warm() time.Duration     { return seconds(p.Warm) }

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
