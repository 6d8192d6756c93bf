#!/usr/bin/env bash
# The crash laboratory: crash images, kills, failures, damage, and mutants of the engine, and a table of how many there were.
#
#	scripts/laboratory.sh                # ten minutes
#	scripts/laboratory.sh --time 2h      # or 90m
#	scripts/laboratory.sh --keep DIR     # what the tests have said stays in DIR
#	scripts/laboratory.sh --book FILE [--images 10000000] [--time 8h]
#
# With --book it checks crash images and does nothing else, until there are so many in FILE (else ten million), or the time is over. It may be stopped
# at any moment: the next run goes on behind the last script that FILE has, and prints what all runs have done.
#
# Damage, failures of calls, the model and the mutants are done once: with less than half an hour a part of the first two, with less than an
# hour three of the mutants. The time that is left is shared by crash images (half of it), kills, and power cuts and failures of a disk
# under ext4, xfs and btrfs, which need root; they go on with fresh seeds as long as there is time. See docs/testing.md for the kinds. The exit
# code is 1 if anything has failed, or if a kind has counted nothing; the last lines say where to look.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
	sed -n '2,/^set/{ /^set/!s/^# \{0,1\}//p; }' "$0" >&2
	exit 2
}

seconds=600 keep= book= images=10000000 timed=
while [ $# -gt 0 ]; do
	case $1 in
	--time)
		[[ ${2:-} =~ ^([0-9]+)(s|m|h)$ ]] || usage
		case ${BASH_REMATCH[2]} in s) unit=1 ;; m) unit=60 ;; h) unit=3600 ;; esac
		seconds=$((BASH_REMATCH[1] * unit)) timed=yes
		shift 2
		;;
	--book)
		[ -n "${2:-}" ] || usage
		book=$2
		shift 2
		;;
	--images)
		[[ ${2:-} =~ ^[0-9]+$ ]] || usage
		images=$2
		shift 2
		;;
	--keep)
		[ -n "${2:-}" ] || usage
		keep=$2
		shift 2
		;;
	*) usage ;;
	esac
done

if [ -n "$keep" ]; then
	mkdir -p "$keep"
	logs=$(cd "$keep" && pwd)
else
	logs=$(mktemp -d)
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failed=()
begun=$SECONDS
seed=$(($(date +%s) * 1000)) # of crash images; no two runs have the same

# run NAME COMMAND... runs a test with its output in a file.
run() {
	local name=$1 file
	shift
	file=$logs/$name.log
	printf '%6d s  %s\n' $((SECONDS - begun)) "$*" >&2
	if ! "$@" >"$file" 2>&1; then
		failed+=("$file: $*")
		grep -E '^ *--- FAIL|panic:|replay:|seed=' "$file" | head -5 >&2
		cp "$file" "$file.failed-$((SECONDS - begun))"
		return 1
	fi
	grep -ohE 'laboratory\|.*' "$file" >>"$scratch/counts"
	grep -hE '^ *--- SKIP' -A 1 "$file" >>"$scratch/skipped"
	return 0
}

# until_then SECONDS NAME COMMAND... runs a test again and again, until so many seconds have passed. NEXT in the command is a fresh seed.
until_then() {
	local end=$((SECONDS + $1)) name=$2 round=0
	shift 2
	while [ "$round" -eq 0 ] || [ "$SECONDS" -lt "$end" ]; do
		round=$((round + 1))
		run "$name-$round" "${@//NEXT/$seed}" || return 1
		seed=$((seed + 100000))
		[ -n "$keep" ] || rm -f "$logs/$name-$round.log"
	done
}

: >"$scratch/counts"
: >"$scratch/skipped"
go test -c -o "$scratch/alder.test" . || exit 1

# fill_book checks images until the book has enough of them, or the time is over.
fill_book() {
	local log=$logs/book.log have=0
	touch "$book" || return 1
	book=$(realpath "$book")
	while :; do
		have=$(awk '{ n += $5 } END { print n + 0 }' "$book")
		[ "$have" -lt "$images" ] || break
		if [ -n "$timed" ] && [ $((SECONDS - begun)) -ge "$seconds" ]; then
			break
		fi
		if ! "$scratch/alder.test" -test.v -test.timeout 0 -test.run '^TestCrash$' -alder.crashbook="$book" -alder.images=$((images - have < 50000 ? images - have : 50000)) >"$log" 2>&1; then
			cat "$log"
			return 1
		fi
		grep -oE 'in all runs of .*' "$log"
	done
	printf '%d crash images of %d, no violation\n' "$have" "$images"
}

if [ -n "$book" ]; then
	fill_book
	code=$?
	[ -n "$keep" ] || rm -rf "$logs"
	exit $code
fi

(cd faultdisk && go test -c -o "$scratch/faultdisk.test" .) || exit 1
alder=("$scratch/alder.test" -test.v -test.timeout 0)
disk=("$scratch/faultdisk.test" -test.v -test.timeout 0)

# With few mutants the engine as it is passes the same test among the crash images below.
short=() faults=() mutants=(-alder.mutants=few -test.skip '^TestMutants$/^none$')
[ "$seconds" -ge 1800 ] || short=(-test.short)
if [ "$seconds" -ge 3600 ]; then
	faults=(-alder.faults) mutants=(-alder.mutants=all)
fi
run damage "${alder[@]}" ${short[@]+"${short[@]}"} -test.run '^TestSabotage_'
run faults "${alder[@]}" ${short[@]+"${short[@]}"} ${faults[@]+"${faults[@]}"} -test.run '^TestFaults$'
run model go test -count 1 -v -run '^TestProtocol$' ./internal/protocol
run mutants "${alder[@]}" -test.run '^TestMutants$' "${mutants[@]}"
run notices "${disk[@]}" -test.run '^TestPowerCut_Notices$|^TestDiskErrors_WrittenAgain$'

rest=$((seconds - (SECONDS - begun)))
[ "$rest" -ge 120 ] || rest=120
until_then $((rest / 6)) kills "${alder[@]}" -test.run '^TestKill' -alder.kills=50
until_then $((rest / 12)) systems "${disk[@]}" -test.run '^TestKill' -disk.kills=20
until_then $((rest / 6)) power "${disk[@]}" -test.run '^TestPowerCut$' -disk.cuts=50
until_then $((rest / 12)) errors "${disk[@]}" -test.run '^TestDiskErrors$' -disk.errors=50
until_then $((rest / 2)) images "${alder[@]}" -test.timeout 20m -test.run '^TestCrash$' -alder.images=20000 -alder.crashseed=NEXT

printf '\n%-6s %-45s %12s\n' goal what count
awk -F'|' '{ n[$2 "|" $3] += $4 } END { for (k in n) print k "|" n[k] }' "$scratch/counts" | sort |
	awk -F'|' '{ printf "%-6s %-45s %12d\n", $1, $2, $3 }'
printf '\n%d min %d s on %s, %s processors\n' $(((SECONDS - begun) / 60)) $(((SECONDS - begun) % 60)) "$(uname -sr)" "$(getconf _NPROCESSORS_ONLN)"
sort -u "$scratch/skipped" | grep -v '^--$' | sed 's/^ */not run: /'

# A kind that counts nothing was not run, whatever it has said.
for goal in C1 C2 C3 C4 C5; do
	grep -q "|$goal|.*|[1-9]" "$scratch/counts" || failed+=("$goal: nothing was counted")
done
if [ ${#failed[@]} -gt 0 ]; then
	printf 'FAILED: %s\n' "${failed[@]}"
	exit 1
fi
[ -n "$keep" ] || rm -rf "$logs"
echo "nothing has failed"
