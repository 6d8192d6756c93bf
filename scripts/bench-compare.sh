#!/usr/bin/env bash
# Compares the micro-benchmarks of a base commit with those of the work tree, and prints what benchstat makes of
# them. Both are built first and then run in turns (base, work tree, base, work tree ...), so that a machine that
# grows slower or faster meanwhile does not look like a change of the code.
#
#   scripts/bench-compare.sh [-n ROUNDS] [-t TIME] BASE [PATTERN]
#
#   BASE     the commit to compare with, for instance HEAD or main~3
#   PATTERN  which benchmarks, as for go test -bench (default: all)
#   -n       how many rounds (default 6: fewer, and benchstat cannot tell a change from chance)
#   -t       time of each benchmark, as for go test -benchtime (default 0.3s)
#
# The results stay in results/compare-*.txt below bench/.
set -euo pipefail

usage() {
  sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"
  exit 2
}

rounds=6
benchtime=0.3s
while getopts n:t:h option; do
  case $option in
    n) rounds=$OPTARG ;;
    t) benchtime=$OPTARG ;;
    *) usage ;;
  esac
done
shift $((OPTIND - 1))
[ $# -ge 1 ] && [ $# -le 2 ] || usage
pattern=${2:-.}

top=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
base=$(git -C "$top" rev-parse --verify --quiet "$1^{commit}") || {
  echo "bench-compare: no commit $1" >&2
  exit 2
}
work=$(mktemp -d "${TMPDIR:-/tmp}/alder-compare-XXXXXX")
tree=$work/base
cleanup() {
  git -C "$top" worktree remove --force "$tree" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

git -C "$top" worktree add --quiet --detach "$tree" "$base"
# The base runs the benchmarks of the work tree: what is compared is the code below them. A base whose API lacks
# something that they use runs its own.
build() { (cd "$1" && GOWORK=off go test -c -o "$2" .); }
cp "$top/bench_test.go" "$tree/bench_test.go"
if ! build "$tree" "$work/base.test" 2>"$work/log"; then
  echo "bench-compare: the base does not build with the benchmarks of the work tree, it runs its own" >&2
  rm "$tree/bench_test.go"
  git -C "$tree" checkout --quiet -- . # its own, if it has any
  build "$tree" "$work/base.test"
fi
build "$top" "$work/tree.test"
if [ ! -x "$work/base.test" ]; then
  echo "bench-compare: the base has no benchmarks of its own" >&2
  exit 1
fi

results=$top/bench/results
mkdir -p "$results"
stamp=$(date -u +%Y%m%d-%H%M%S)
old=$results/compare-$stamp-base.txt
new=$results/compare-$stamp-tree.txt
: >"$old"
: >"$new"
for round in $(seq "$rounds"); do
  echo "round $round of $rounds" >&2
  for side in base tree; do
    out=$old dir=$tree
    [ $side = tree ] && out=$new dir=$top
    (cd "$dir" && "$work/$side.test" -test.run '^$' -test.bench "$pattern" -test.benchtime "$benchtime") >>"$out"
  done
done
cd "$top/bench"
go tool benchstat "base=$old" "tree=$new"
echo "bench-compare: $old and $new keep the results" >&2
