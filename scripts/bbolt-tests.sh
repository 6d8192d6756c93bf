#!/bin/sh
# Runs bbolt's own tests against alder: takes those of its public API from the module cache, changes the import, and compares which of
# them fail with the list below. Any other failure, and a test of the list that passes, end it with an error.
#
#	scripts/bbolt-tests.sh               # all of them, half a minute
#	scripts/bbolt-tests.sh -run Cursor   # any arguments of go test; then without the comparison
set -eu
cd "$(dirname "$0")/.."
root=$PWD

# What fails, and why that is meant.
expected='
TestBucket_Stats_EmptyBucket                       other pages, other sizes
TestBucket_Stats_Nested                            other pages, other sizes
TestBucket_Stats_Small                             other pages, other sizes
TestDBUnmap                                        looks for a private field of DB
TestDB_BatchFull                                   Batch waits for no delay
TestDB_Consistency                                 other kinds of pages
TestDB_MaxSizeNotExceeded                          what is put takes less space, and fits
TestDB_MaxSizeWithHighInitialMMapDoesNotGrowOnWrite what is put takes less space, and fits
TestDB_Stats                                       other pages
TestOpen_ErrChecksum                               changes bytes of the meta pages where bbolt has its fields
TestOpen_ErrInvalid                                compares the error with ==; errors.Is holds
TestOpen_ErrVersionMismatch                        changes bytes of the meta pages where bbolt has its fields
TestOpen_FileTooSmall                              a new store that was cut is made anew; nothing was ever stored in it
TestOpen_ReadPageSize_FromMeta1_Given              asks for pages of 1024 bytes
TestOpen_Size                                      a put of one key adds 6 pages (leaf, branches, root, map), 5 are allowed
TestTx_CopyFile_Error_Meta                         compares the text of an error
TestTx_MoveBucket                                  compares two files byte by byte; each store has an identity of its own
TestTx_TruncateBeforeWrite                         the file grows in steps of another size
'

bbolt=$(go -C bench list -m -f '{{.Dir}}' go.etcd.io/bbolt)
if [ ! -d "$bbolt" ]; then
	go -C bench mod download go.etcd.io/bbolt
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/btesting"

# without NAME... deletes functions.
without() {
	awk -v names=" $* " '
		/^func / { name = $2; sub(/\(.*/, "", name); if (index(names, " " name " ")) skip = 1 }
		!skip { print }
		skip && /^}/ { skip = 0 }'
}
for f in bucket concurrent cursor db movebucket quick simulation simulation_no_freelist_sync tx unix utils; do
	without TestTxStats_GetAndIncAtomically <"$bbolt/${f}_test.go" >"$dir/${f}_test.go"
done
cp "$bbolt/internal/btesting/btesting.go" "$dir/btesting/btesting.go"
chmod -R u+w "$dir"
# The import; what they use of bbolt's inside; and Tx.Check, which is an iterator and no channel.
sed -i \
	-e 's#go.etcd.io/bbolt/internal/btesting#bbolttests/btesting#' \
	-e 's#^\t"go.etcd.io/bbolt"$#\tbbolt "github.com/alderdb/alder"#' \
	-e 's#bolt "go.etcd.io/bbolt"#bolt "github.com/alderdb/alder"#' \
	-e 's#go.etcd.io/bbolt/errors#github.com/alderdb/alder/errors#' \
	-e '/bbolt\/internal\/common/d' -e '/common\.Assert/d' -e 's/common\.MaxAllocSize/0x7FFFFFFF/' \
	-e 's/<-tx\.Check()/first(tx.Check())/' \
	"$dir"/*_test.go "$dir/btesting/btesting.go"
cat >"$dir/first_test.go" <<'GO'
package bbolt_test

import "iter"

func first(errs iter.Seq[error]) error {
	for err := range errs {
		return err
	}
	return nil
}
GO
cat >"$dir/go.mod" <<MOD
module bbolttests

go 1.26.0

require (
	github.com/alderdb/alder v0.0.0
	github.com/stretchr/testify v1.12.1
)

replace github.com/alderdb/alder => $root
MOD
cd "$dir"
GOWORK=off go mod tidy 2>/dev/null
if [ $# -gt 0 ]; then
	GOWORK=off go test -vet=off "$@" .
	exit
fi
GOWORK=off go test -vet=off -short -v . >output 2>&1 || true
if ! grep -q '^--- PASS: TestBucket_Get' output; then
	tail -40 output
	exit 1
fi
echo "$expected" | awk 'NF { print $1 }' | sort >want
awk '/^--- FAIL: / { print $3 }' output | sort >got
echo "$(grep -c '^--- PASS: ' output) of bbolt's tests pass, $(wc -l <got) fail"
diff want got
