//go:build !cgo || !unix

package lmdb

import "errors"

var errMissing = errors.New("this program was built without cgo, which LMDB needs")

// Available says that LMDB cannot be used by this build.
func Available() error { return errMissing }

// Version says that LMDB cannot be used by this build.
func Version() string { return errMissing.Error() }

// Config says how to open an Env.
type Config struct {
	MapBytes int64
	NoSync   bool
	WriteMap bool
	// NoReadAhead is LMDB's advice for stores larger than the memory.
	NoReadAhead bool
}

// Env, ReadTx and WriteTx stand in for those of builds with cgo; none can be made.
type (
	Env     struct{}
	ReadTx  struct{}
	WriteTx struct{}
)

func Open(string, Config) (*Env, error)         { return nil, errMissing }
func (*Env) Sync() error                        { return errMissing }
func (*Env) Close()                             {}
func (*Env) BeginWrite() (WriteTx, error)       { return WriteTx{}, errMissing }
func (*Env) NewReadTx() (*ReadTx, error)        { return nil, errMissing }
func (WriteTx) Put(_, _ []byte, _ bool) error   { return errMissing }
func (WriteTx) Delete([]byte) error             { return errMissing }
func (WriteTx) Commit() error                   { return errMissing }
func (WriteTx) Abort()                          {}
func (*ReadTx) Begin() error                    { return errMissing }
func (*ReadTx) End()                            {}
func (*ReadTx) Close()                          {}
func (*ReadTx) Get([]byte) ([]byte, error)      { return nil, errMissing }
func (*ReadTx) First() (k, v []byte, err error) { return nil, nil, errMissing }
func (*ReadTx) Last() (k, v []byte, err error)  { return nil, nil, errMissing }
func (*ReadTx) Next() (k, v []byte, err error)  { return nil, nil, errMissing }
func (*ReadTx) Prev() (k, v []byte, err error)  { return nil, nil, errMissing }

func (*ReadTx) Seek([]byte) (k, v []byte, err error) { return nil, nil, errMissing }
