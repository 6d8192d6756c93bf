package alder_test

import "testing"

// FuzzOperations decodes its input as a script of operations and compares every answer with a sorted map's; see
// machine. The first bytes choose the page size and how soon dirty pages are
// written out.
func FuzzOperations(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 0, 0, 10, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9})
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 4000 {
			t.Skip("long scripts find no more than short ones and take longer")
		}
		src := &byteChooser{script: script}
		db := openMemory(t, withPageSize([]int{4096, 8192, 65536}[src.pick(3)]), withDirtyLimit([]int{0, 8192, 60_000}[src.pick(3)]))
		m := newMachine(t, db, src)
		m.largest = 20_000
		for src.more() {
			m.transaction()
		}
		m.finish()
	})
}
