#!/bin/sh
# Runs the Windows build of the tests under Wine, on Debian (amd64).
#
#	scripts/wine-test.sh                      # the root package
#	scripts/wine-test.sh -run Storage -v .    # any arguments of go test
#
# It installs what is missing if it is run by root, and says what to install otherwise. The Wine prefix and the stand-in
# below go to WINEPREFIX, by default a directory of the user's cache.
set -eu
cd "$(dirname "$0")/.."

wine=
for candidate in wine64 wine /usr/lib/wine/wine64; do
	if command -v "$candidate" >/dev/null 2>&1; then
		wine=$(command -v "$candidate")
		break
	fi
done
compiler=x86_64-w64-mingw32-gcc-win32
if [ -z "$wine" ] || ! command -v $compiler >/dev/null 2>&1; then
	packages="wine64 gcc-mingw-w64-x86-64-win32"
	if [ "$(id -u)" != 0 ]; then
		echo "wine-test: install these packages first: $packages" >&2
		exit 1
	fi
	apt-get update -qq
	# shellcheck disable=SC2086
	apt-get install -y -qq --no-install-recommends $packages >/dev/null
	exec scripts/wine-test.sh "$@"
fi

WINEPREFIX=${WINEPREFIX:-${XDG_CACHE_HOME:-$HOME/.cache}/alder-wine}
# No sound, no display, no questions about them, and no chatter in the tests' output.
WINEDEBUG=${WINEDEBUG:--all}
WINEDLLOVERRIDES=${WINEDLLOVERRIDES:-mscoree,mshtml=}
export WINEPREFIX WINEDEBUG WINEDLLOVERRIDES
system=$WINEPREFIX/drive_c/windows/system32
if [ ! -d "$system" ]; then
	mkdir -p "$(dirname "$WINEPREFIX")"
	"$wine" wineboot --init >/dev/null 2>&1
fi

# Go takes its random numbers from ProcessPrng of bcryptprimitives.dll, which Wine 8 lacks. This stand-in has that one
# function.
if [ ! -f "$system/bcryptprimitives.dll" ]; then
	source=$(mktemp -d)
	trap 'rm -rf "$source"' EXIT
	cat >"$source/prng.c" <<'C'
#include <windows.h>
BOOLEAN NTAPI SystemFunction036(PVOID buffer, ULONG length);
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE buffer, SIZE_T length) { return SystemFunction036(buffer, (ULONG)length); }
C
	$compiler -shared -O2 -o "$source/bcryptprimitives.dll" "$source/prng.c" -ladvapi32
	mv "$source/bcryptprimitives.dll" "$system/"
fi

[ $# -gt 0 ] || set -- .
GOOS=windows GOARCH=amd64 CGO_ENABLED=0 go test -exec "$wine" "$@"
