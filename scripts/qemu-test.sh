#!/bin/sh
# Runs the tests of another processor architecture under QEMU's user emulation, on Debian.
#
#	scripts/qemu-test.sh arm64                     # the root package
#	scripts/qemu-test.sh s390x -run Storage -v .   # any arguments of go test
#
# Architectures: arm64, arm, s390x, ppc64le, riscv64, mips64, … It installs what is missing if it is run by root, and says what
# to install otherwise.
set -eu
cd "$(dirname "$0")/.."

if [ $# -eq 0 ]; then
	echo "usage: scripts/qemu-test.sh ARCHITECTURE [arguments of go test]" >&2
	exit 2
fi
GOARCH=$1
shift
case $GOARCH in
arm64) machine=aarch64 ;;
386) machine=i386 ;;
amd64) machine=x86_64 ;;
*) machine=$GOARCH ;;
esac
if ! command -v "qemu-$machine-static" >/dev/null 2>&1; then
	if [ "$(id -u)" != 0 ]; then
		echo "qemu-test: install this package first: qemu-user-static" >&2
		exit 1
	fi
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends qemu-user-static >/dev/null
fi

# QEMU keeps a record of every page that the program maps, touched or not. The reservation of a store is far too large for
# that and would take all memory of the machine; with a limit the store asks for less.
ulimit -v 8000000

[ $# -gt 0 ] || set -- .
GOARCH=$GOARCH CGO_ENABLED=0 go test -exec "qemu-$machine-static" "$@"
