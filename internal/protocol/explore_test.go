package protocol

import (
	"flag"
	"fmt"
	"hash/maphash"
	"strings"
	"testing"
	"time"
)

var largeFlag = flag.Bool("protocol.large", false, "explore the model within larger bounds, for some minutes")

// bounds say how much may happen in the states that are explored.
type bounds struct {
	script  string
	crashes int8
	faults  int8
	cuts    int8 // checkpoints in the background
	opens   int8 // opens after an orderly close
	reader  bool
}

func (b bounds) String() string {
	return fmt.Sprintf("%s, %d crashes, %d faults, %d checkpoints, %d opens, reader %v", b.script, b.crashes, b.faults, b.cuts, b.opens, b.reader)
}

// exploration goes through all states that can be reached, once each.
type exploration struct {
	world
	seed      maphash.Seed
	seen      map[uint64]struct{}
	trace     []string
	violation string
	done      map[string]int // how often each step was taken
}

// explored explores the model within bounds, without some rules, until something goes wrong.
func explored(b bounds, without ...string) *exploration {
	x := &exploration{seed: maphash.MakeSeed(), seen: map[uint64]struct{}{}, done: map[string]int{}}
	x.world = world{contents: *newContents(), script: b.script, without: map[string]bool{}, reader: b.reader, explore: x.visit}
	for _, rule := range without {
		x.without[rule] = true
	}
	x.world.fail = func(format string, args ...any) {
		if x.violation == "" {
			x.violation = fmt.Sprintf(format, args...) + "\n  " + strings.Join(x.trace, "\n  ")
		}
	}
	s := state{crashes: b.crashes, faults: b.faults, cuts: b.cuts, opens: b.opens}
	// A store as it is made: closed in order, with two empty leaves and their map.
	first := [2]ref{{metas, 1}, {metas + 1, 1}}
	for i, r := range first {
		x.put(&s, r.page, content{kind: leaf0 + kind(i), birth: 1})
	}
	m := ref{metas + 2, 1}
	x.put(&s, m.page, content{kind: freeMap, birth: 1, used: 7 << metas})
	x.put(&s, 1, content{kind: meta, birth: 1, sequence: 1, leaf: first, freeMap: m, clean: true})
	s.sync()
	x.visit("a new store", &s)
	return x
}

func (x *exploration) visit(step string, s *state) {
	if x.violation != "" || s.impossible {
		return
	}
	x.done[strings.TrimRight(step, " 0123456789")]++
	x.trace = append(x.trace, step)
	defer func() { x.trace = x.trace[:len(x.trace)-1] }()
	x.normal(s)
	x.check(s)
	h := maphash.Comparable(x.seed, *s)
	if _, ok := x.seen[h]; ok || x.violation != "" {
		return
	}
	x.seen[h] = struct{}{}
	x.steps(s)
	x.crash(s)
	x.lose(s)
}

// usual are bounds that take a few seconds together, large are for long runs.
var (
	usual = []bounds{
		{script: "avb", crashes: 1, faults: 1, cuts: 1, opens: 1, reader: true},
		{script: "avab", crashes: 2, cuts: 1},
		{script: "laab", crashes: 2, cuts: 1},
		{script: "lvva", crashes: 1, faults: 1, cuts: 1},
		{script: "alab", crashes: 1, faults: 1, cuts: 1},
		{script: "lab", crashes: 2, faults: 1, opens: 1},
		{script: "lab", crashes: 3, opens: 1},
		{script: "ab", crashes: 1, faults: 2},
	}
	large = []bounds{
		{script: "aabv", crashes: 1, faults: 1, cuts: 1, reader: true},
		{script: "alab", crashes: 2, faults: 1, cuts: 1},
		{script: "laabab", crashes: 1, cuts: 2},
		{script: "lvavb", crashes: 2, cuts: 1},
		{script: "avb", crashes: 3, faults: 1, cuts: 1},
		{script: "vab", crashes: 2, faults: 2, cuts: 1, opens: 1},
	}
)

// Ensures that no crash and no failed write, at any moment, loses or damages what was promised; and that what the model can do is done.
func TestProtocol(t *testing.T) {
	tried := usual
	if *largeFlag {
		tried = append(tried, large...)
	}
	done := map[string]int{}
	for _, b := range tried {
		t.Run(b.String(), func(t *testing.T) {
			if testing.Short() && (len(b.script) > 3 || b.reader) {
				t.Skip("takes some seconds")
			}
			begun := time.Now()
			x := explored(b)
			t.Logf("%d states in %.1f s", len(x.seen), time.Since(begun).Seconds())
			t.Logf("laboratory|model|states of the protocol explored|%d", len(x.seen))
			if x.violation != "" {
				t.Fatal(x.violation)
			}
			for step, n := range x.done {
				done[step] += n
			}
		})
	}
	if testing.Short() {
		return
	}
	t.Logf("steps: %v", done)
	for _, step := range []string{"commit", "begin", "shared commit", "unshared commit", "append", "appended", "published", "reader begins", "reader ends", "large", "log starts", "log started",
		"checkpoint begins", "checkpoint writes", "checkpoint syncs", "checkpoint's meta", "checkpoint done", "close begins", "open", "kill", "power cut",
		"open syncs", "meta confirmed", "replayed", "recovery syncs", "given up", "failed append", "failed sync", "failed meta", "failed meta of the log",
		"failed sync at open", "failed sync of the recovery", "failed confirmation", "lost page"} {
		if done[step] == 0 {
			t.Errorf("the model never does this: %s", step)
		}
	}
}

var (
	oneCrash = bounds{script: "avab", crashes: 1, cuts: 1}
	oneFault = bounds{script: "aab", crashes: 1, faults: 1, cuts: 1}
	oneLarge = bounds{script: "alab", crashes: 1, cuts: 1}
	closings = bounds{script: "avb", crashes: 1, cuts: 1, opens: 1}
	readers  = bounds{script: "aab", cuts: 1, reader: true}
	manyRuns = bounds{script: "laabab", crashes: 1, cuts: 2}
	twoLogs  = bounds{script: "lab", crashes: 2, opens: 1}
)

// rules are those of the protocol, with bounds within which something goes wrong without them. Where several are named, each takes
// over for the others: only without all of them something goes wrong.
var rules = []struct {
	names string
	bounds
}{
	{"other slot", oneCrash},
	{"slot not by number", oneCrash},
	{"by sequence", closings},
	{"meta durable", oneCrash},
	{"synced before the meta", oneCrash},
	{"append durable", oneCrash},
	{"seen when durable", oneCrash},
	{"number, chain", manyRuns},
	{"number, chain, salt", twoLogs},
	{"log has a meta", oneCrash},
	{"log is not clean", oneCrash},
	{"runs kept", bounds{script: "abva", crashes: 1, cuts: 1, opens: 1}},
	{"claimed", bounds{script: "abva", crashes: 1, cuts: 1}},
	{"confirmed", oneFault},
	{"group closed", oneCrash},
	{"waits for its group", oneCrash},
	{"log begins behind", oneCrash},
	{"map of its state", oneCrash},
	{"map copied", oneCrash},
	{"large waits", oneLarge},
	{"large is alone", oneLarge},
	{"value durable", oneCrash},
	{"value pinned", bounds{script: "lvva", crashes: 1, cuts: 1}},
	{"copied", oneCrash},
	{"pinned meanwhile", oneCrash},
	{"rollback", bounds{script: "abva", crashes: 1, cuts: 1}},
	{"append fails", oneFault},
	{"sync fails", oneFault},
	{"checkpoint stops", oneFault},
	{"published pinned", readers},
	{"visible pinned", bounds{script: "aabv", cuts: 1}},
	{"durable pinned", oneCrash},
	{"reader pinned", readers},
	{"checkpoint pinned", oneCrash},
	{"group pinned", oneCrash},
}

// Ensures that the model is not blind: without any rule of the protocol something goes wrong in it.
func TestProtocol_Rules(t *testing.T) {
	for _, r := range rules {
		t.Run(r.names, func(t *testing.T) {
			x := explored(r.bounds, strings.Split(r.names, ", ")...)
			if x.violation == "" {
				t.Fatalf("nothing goes wrong in %d states", len(x.seen))
			}
			line, _, _ := strings.Cut(x.violation, "\n")
			t.Logf("state %d, step %d: %s", len(x.seen), strings.Count(x.violation, "\n"), line)
		})
	}
}

// Ensures what is said of rules that are there twice: without one of them nothing goes wrong, as long as disks keep their promises.
//
// A frame that an earlier log, or an earlier use of its run, has left would need the right number and the right frame before it; the
// salt, the place, and numbers that are not given out again after a recovery, are there besides. What a killed process has left in the page cache
// is synced by the recovery's checkpoint too, before its meta, and the meta that is chosen is confirmed by itself; it is for the length of the
// file, which the model does not have, that an open must begin with a sync.
func TestProtocol_Spare(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	for _, names := range []string{"salt", "fresh salt", "place", "chain", "number", "numbers once", "numbers once, fresh salt", "sync at open"} {
		for _, b := range []bounds{twoLogs, oneFault, closings, {script: "laab", crashes: 1, cuts: 1}} {
			if x := explored(b, strings.Split(names, ", ")...); x.violation != "" {
				t.Errorf("without %s, within %v: %s", names, b, x.violation)
			}
		}
	}
}
