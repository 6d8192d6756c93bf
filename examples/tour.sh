#!/bin/sh
# A tour of kvctl on real data: the source tree of Go becomes a store, which is then read, searched, counted and checked.
#
#	examples/tour.sh          # in a temporary directory
#	examples/tour.sh DIR      # in DIR, which is created
#
# It needs Go, and the network once for the modules that kvctl uses. The directory is kept, to go on from there.
set -eu
repository=$(cd "$(dirname "$0")/.." && pwd)
if [ $# -gt 0 ]; then
	mkdir -p "$1"
	dir=$(cd "$1" && pwd)
else
	dir=$(mktemp -d)
fi

# run shows a command and runs it.
run() {
	printf '\n$ %s\n' "$*"
	"$@"
}

(cd "$repository" && go build -o "$dir/kvctl" ./cmd/kvctl)
src=$(go env GOROOT)/src
cd "$dir"
PATH=$dir:$PATH
export PATH
rm -f src.alder

run kvctl load src.alder go --dir "$src"

printf '\n$ kvctl get src.alder go fmt/print.go | cmp - %s/fmt/print.go\n' "$src"
kvctl get src.alder go fmt/print.go | cmp - "$src/fmt/print.go"
echo "identical"

run kvctl scan src.alder go --prefix encoding/json/ --keys-only --limit 10
run kvctl scan src.alder go --from net/http/ --to net/http0 --keys-only --reverse --limit 3
run kvctl count src.alder go
run kvctl count src.alder go --from a --to n
run kvctl stats src.alder
run kvctl check src.alder

printf '\nThe store is %s/src.alder, the program %s/kvctl.\n' "$dir" "$dir"
