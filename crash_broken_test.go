package alder

import (
	"bytes"
	"errors"
	"testing"
)

// Storages that break the promise of one call.

type lyingSync struct{ *simDisk }

func (lyingSync) sync() error { return nil }

type lyingDurable struct{ *simDisk }

func (d lyingDurable) writeDurable(p []byte, off int64) error { return d.writeAt(p, off) }

// lyingLength never makes the file's length durable: a crash gives back the one that was durable at its start.
type lyingLength struct{ *simDisk }

func (d lyingLength) sync() error {
	d.mu.Lock()
	durable := d.lengths[0]
	d.mu.Unlock()
	err := d.simDisk.sync()
	d.mu.Lock()
	d.lengths = append([]simLength{durable}, d.lengths...)
	d.mu.Unlock()
	return err
}

// lateWrites puts every write into the cache only after the next sync.
type lateWrites struct {
	*simDisk
	late *[]func() error
}

func (d lateWrites) flush() error {
	for _, w := range *d.late {
		if err := w(); err != nil {
			return err
		}
	}
	*d.late = nil
	return nil
}

func (d lateWrites) writeAt(p []byte, off int64) error {
	p = bytes.Clone(p)
	*d.late = append(*d.late, func() error { return d.simDisk.writeAt(p, off) })
	return nil
}

func (d lateWrites) sync() error {
	err := d.simDisk.sync()
	return errors.Join(err, d.flush()) // too late: not covered by this sync
}

// The following make of a correct store one that breaks a rule of the protocol, by what they do with its calls.
// Each open gets a new one.

// noSyncAtOpen swallows the first sync after the open.
type noSyncAtOpen struct {
	*simDisk
	synced bool
}

func (d *noSyncAtOpen) sync() error {
	if !d.synced {
		d.synced = true
		return nil
	}
	return d.simDisk.sync()
}

// noReadBack shows the cache for the medium, so that the chosen meta is never confirmed.
type noReadBack struct{ *simDisk }

func (d noReadBack) readMedium(p []byte, off int64) (bool, error) { return true, d.readAt(p, off) }

// blindRewrite never shows the medium, so that the newest meta is rewritten at every open on a disk that can tear it.
type blindRewrite struct{ *simDisk }

func (d blindRewrite) readMedium([]byte, int64) (bool, error) { return false, nil }

// metaBeforeSync syncs when the durable write that follows is done.
type metaBeforeSync struct {
	*simDisk
	opened, owed bool
}

func (d *metaBeforeSync) sync() error {
	if !d.opened {
		d.opened = true
		return d.simDisk.sync()
	}
	d.owed = true
	return nil
}

func (d *metaBeforeSync) writeDurable(p []byte, off int64) error {
	err := d.simDisk.writeDurable(p, off)
	if err == nil && d.owed {
		d.owed = false
		err = d.simDisk.sync()
	}
	return err
}

// secondTry repeats a sync that has failed, and believes it.
type secondTry struct{ *simDisk }

func (d secondTry) sync() error {
	if err := d.simDisk.sync(); err != nil {
		return d.simDisk.sync()
	}
	return nil
}

// brokenStorage makes a storage from a disk, and says where its fault is to be seen.
type brokenStorage struct {
	wrap func(*simDisk) storage
	aim  func(*crashLab, *crashCase)
}

// brokenStorages are storages on which every protocol must fail.
var brokenStorages = map[string]brokenStorage{
	"sync does nothing":            {func(d *simDisk) storage { return lyingSync{d} }, nil},
	"durable write is not durable": {func(d *simDisk) storage { return lyingDurable{d} }, nil},
	"length is not durable":        {func(d *simDisk) storage { return lyingLength{d} }, nil},
	"writes come after the sync":   {func(d *simDisk) storage { return lateWrites{d, new([]func() error)} }, nil},
	"no sync at open":              {func(d *simDisk) storage { return &noSyncAtOpen{simDisk: d} }, nil},
	"no read-back":                 {func(d *simDisk) storage { return noReadBack{d} }, aimAtFailedMeta},
	"blind rewrite":                {func(d *simDisk) storage { return blindRewrite{d} }, aimAtTornSectors},
	"meta before sync":             {func(d *simDisk) storage { return &metaBeforeSync{simDisk: d} }, nil},
	"failed sync repeated":         {func(d *simDisk) storage { return secondTry{d} }, aimAtFailedSync},
}

func (b brokenStorage) mustBeFound(t *testing.T, l *crashLab) {
	l.wrap = b.wrap
	k, v := l.search(100000, b.aim)
	if v == nil {
		t.Fatalf("not found in %d images", l.images.Load())
	}
	t.Logf("found after %d images: seed %d, point %d, outcome %d: %s", l.images.Load(), k.seed, v.point, v.outcome, firstLine(v.what))
}

// Ensures that the crash tests can fail: on a storage that breaks one promise, or that makes the engine break one
// rule of its protocol, they find a violation.
func TestCrash_BrokenStorages(t *testing.T) {
	t.Parallel()
	for name, broken := range brokenStorages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broken.mustBeFound(t, alderLab())
		})
	}
}
