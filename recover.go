package alder

import (
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// replay brings a store that was not closed in order to the state that its log holds, as one transaction, and makes that durable by a
// checkpoint that no log follows. Until its meta is durable nothing that the log needs is touched, so a crash on the
// way changes nothing. (Invariant 40)
func (db *DB) replay() error {
	pg := db.pager
	scan := pg.replay
	begun := time.Now()
	if pg.opts.logger != nil {
		pg.opts.logger.Info("alder: recovering", "transactions", int(scan.next-1-pg.tip.id), "bytes", scan.bytes)
	}
	pg.writing <- struct{}{}
	tx := db.newWriteTx(scan.next - 1 + recoveryGap)
	tx.w.recovery = true
	pg.record.tooLong = true // it is in the log already
	p := replayer{tx: tx}
	done := progress{logger: pg.opts.logger, total: len(scan.frames), next: begun.Add(progressInterval)}
	for i := range scan.frames {
		if err := scan.frames[i].records(p.apply); err != nil {
			return errors.Join(err, tx.end(false))
		}
		done.step(i + 1)
	}
	if err := tx.commit(); err != nil {
		return fmt.Errorf("checkpoint of the recovery: %w", err)
	}
	pg.replay = nil
	if pg.opts.logger != nil {
		pg.opts.logger.Info("alder: recovered", "transaction", int(pg.tip.id), "time", time.Since(begun))
	}
	return nil
}

// recoveryGap is added to the number of the last transaction that a recovery finds. Transactions behind it may have been lost, after their
// pages were written: with their numbers given out again, such a page could be taken for one of a new transaction, should that
// be lost in turn. No more transactions than this can be lost: they all were in groups that waited for the disk. (Invariant 42)
const recoveryGap = 1 << 24

// progressInterval is the time between two reports of a recovery that takes long.
const progressInterval = time.Second

// progress reports how far a recovery is.
type progress struct {
	logger *slog.Logger
	total  int
	next   time.Time
}

func (p *progress) step(n int) {
	if p.logger == nil || n%64 != 0 || time.Now().Before(p.next) {
		return
	}
	p.next = time.Now().Add(progressInterval)
	p.logger.Info("alder: recovering", "part", fmt.Sprintf("%d of %d", n, p.total))
}
