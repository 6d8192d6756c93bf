package workload

import "github.com/alderdb/alder/bench/internal/engine"

func init() {
	for _, d := range []struct{ id, data, what string }{
		{"GO", "tree", "Go source tree (path → content)"},
		{"WORDS", "words", "words of the Go source tree (word → count)"},
	} {
		register(
			&Workload{ID: d.id + "-load", Title: d.what + ": load in random order, lazy, 1,000 per transaction",
				Store: Empty, Params: Params{Data: d.data, PerTx: 1000, Durability: engine.Lazy},
				Main: "puts/s", More: true, Run: loadEmpty(false)},
			&Workload{ID: d.id + "-get", Title: d.what + ": random Get, one per transaction", Store: Shared,
				Params: Params{Data: d.data}, Main: "ns/op", Run: readLoop(getOnce, false)},
			&Workload{ID: d.id + "-scan", Title: d.what + ": full scan", Store: Shared,
				Params: Params{Data: d.data}, Main: "forward", More: true, Run: scanAll},
			&Workload{ID: d.id + "-space", Title: d.what + ": file bytes per key", Store: Empty,
				Params: Params{Data: d.data, PerTx: 1000, Durability: engine.Lazy},
				Main:   "bytes/key", Run: loadSpace(false)},
		)
	}
}
