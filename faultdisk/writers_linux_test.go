package faultdisk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/alderdb/alder"
	"github.com/alderdb/alder/internal/killtest"
)

// The processes that write to a store on the disk. They report acknowledgements through a pipe, and go on until they are killed or their
// standard input ends.

func writer(argument string, write func(r killtest.Round) error) error {
	round, err := killtest.ParseRound(argument)
	if err != nil {
		return err
	}
	return write(round)
}

func writeHonestly(r killtest.Round) error {
	return killtest.WriteAndReport(r, os.Stdin, os.Stdout, os.Stderr)
}

// untilInputEnds is a context that ends when nobody holds the other end of the standard input any more.
func untilInputEnds() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	return ctx
}

func acknowledge(a killtest.Ack) error {
	_, err := io.WriteString(os.Stdout, a.String())
	return err
}

// writeHastily acknowledges transactions before they are durable, as a store that forgets to sync would.
func writeHastily(r killtest.Round) error {
	r.NoSync = true
	return killtest.Write(untilInputEnds(), r, func(a killtest.Ack) error {
		a.Lazy = false
		return acknowledge(a)
	})
}

// verdict is how a store has behaved on a disk that fails, as a line of JSON.
type verdict struct {
	Err    string `json:"err"`    // of the first call that failed; empty: none has
	Failed bool   `json:"failed"` // the store is in the failed state
	Broken string `json:"broken"` // a promise that it has not kept; empty: none
}

// writeUntilFailure writes until something fails, and looks whether the store behaves as it must then.
func writeUntilFailure(r killtest.Round) error {
	v := verdict{}
	db, err := killtest.Open(r)
	if err == nil {
		err = killtest.Run(untilInputEnds(), db, r, acknowledge)
		v.Failed = db.Failed() != nil
		v.Broken = failedAs(db, err)
		closed := db.Close()
		if v.Failed && !errors.Is(closed, alder.ErrFailed) {
			v.Broken = fmt.Sprintf("Close of a failed store says %v", closed)
		}
		err = errors.Join(err, closed)
	}
	if err != nil {
		v.Err = err.Error()
		if v.Broken == "" && !isOfDisk(err) {
			v.Broken = "the error is not the disk's: " + v.Err
		}
	}
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = fmt.Printf("%s\n", text)
	return err
}

// isOfDisk reports whether an error is one that a system with a bad disk may give, of whatever the store was doing: the disk's own, or that of a
// file system that has stopped to write, or to work at all.
func isOfDisk(err error) bool {
	var fault *alder.FaultError
	return errors.As(err, &fault) || errors.Is(err, syscall.EIO) || errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.EUCLEAN)
}

// failedAs says what is wrong with a store after a call has returned err.
func failedAs(db *alder.DB, err error) string {
	if errors.Is(err, killtest.ErrBroken) {
		return err.Error()
	}
	if db.Failed() == nil {
		if errors.Is(err, alder.ErrFailed) {
			return fmt.Sprintf("the store is not in the failed state after %v", err)
		}
		return ""
	}
	write := func(tx *alder.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte("numbers"))
		if err != nil {
			return err
		}
		return b.Put([]byte("after the failure"), nil)
	}
	if err := db.Update(write); !errors.Is(err, alder.ErrFailed) {
		return fmt.Sprintf("a transaction after the failure says %v", err)
	}
	if err := db.Sync(); !errors.Is(err, alder.ErrFailed) {
		return fmt.Sprintf("Sync after the failure says %v", err)
	}
	return ""
}
