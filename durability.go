package alder

import "fmt"

// Durability says when Commit returns. No level can damage the store; they differ in what a crash may take back.
type Durability int

const (
	// DurabilityDefault is what Options say.
	DurabilityDefault Durability = iota

	// DurabilityFull: Commit returns when the transaction will survive a crash of the process, of the system, and a power cut; readers
	// see it no earlier.
	DurabilityFull

	// DurabilityLazy: Commit returns at once. The transaction is durable within Options.SyncInterval, or after DB.Sync. A crash of the
	// process or the system before that takes it back, and with it all that were committed later.
	DurabilityLazy
)

// String returns the name of the level.
func (d Durability) String() string {
	switch d {
	case DurabilityDefault:
		return "default"
	case DurabilityFull:
		return "full"
	case DurabilityLazy:
		return "lazy"
	}
	return "unknown"
}

// SetDurability chooses when Commit of this write transaction returns; without it Options decide. In a store whose own
// level is full, readers see a lazy transaction when it is durable, and not before. Durability is that of the log, in order of the
// transactions: a full one makes all earlier lazy ones durable too. The last call before Commit counts; in Batch, the strongest level of all
// functions that it joins. SetDurability returns ErrTxNotWritable or ErrTxClosed, or an error for a level that there is not. In a store in
// memory it changes nothing.
func (tx *Tx) SetDurability(d Durability) error {
	if err := tx.ready(true); err != nil {
		return err
	}
	if d < DurabilityDefault || d > DurabilityLazy {
		return fmt.Errorf("alder: SetDurability: the level is %d, it must be from %d to %d", int(d), int(DurabilityDefault), int(DurabilityLazy))
	}
	tx.w.level = d
	return nil
}
