#!/usr/bin/env bash
# Boots a kernel in QEMU and runs the live tests there: see README.md.
set -euo pipefail

usage() { echo "usage: ${0##*/} VMLINUZ MODULES_DIR [MODULE…]" >&2; exit 2; }
[ $# -ge 2 ] || usage
vmlinuz=$(realpath -e "$1")
modules=$(realpath -e "$2")
shift 2
cd "$(dirname "$0")/../.."
. tests/vm/modules.sh

# Seconds for everything from the first instruction on.
timeout=${VM_TIMEOUT:-600}
busybox=${BUSYBOX:-$(command -v busybox)} || { echo "missing: busybox, statically linked" >&2; exit 2; }
qemu=$(command -v qemu-system-x86_64) || { echo "missing: qemu-system-x86_64" >&2; exit 2; }
mkfs=$(PATH=$PATH:/usr/sbin:/sbin command -v mkfs.ext4) || { echo "missing: mkfs.ext4" >&2; exit 2; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root"/{bin,dev,etc,lib/modules,proc,sys,tmp,report}

# The programs, as cargo says where they are, and the libraries they load. Cargo builds
# others with them: two packages have tests of the same name.
executable() { # MANIFEST KIND CARGO'S_ARGUMENTS…
    local manifest=$PWD/$1 kind=$2 found
    shift 2
    found=$(cargo "$@" --message-format=json | grep -F "\"manifest_path\":\"$manifest\"" |
        grep -F "\"kind\":[\"$kind\"]" |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
    [ -x "$found" ] || { echo "cargo does not say where the $kind of $manifest is" >&2; return 1; }
    echo "$found"
}
tests=$(executable Cargo.toml test test --no-run -p tracepoints --test it)
tracepoints=$(executable cli/Cargo.toml bin build -p tracepoints-cli)
command_tests=$(executable cli/Cargo.toml test test --no-run -p tracepoints-cli --test it)
install_program() {
    cp "$1" "$root/bin/$2"
    # Without what only a debugger reads it is a fifth as large.
    if command -v strip >/dev/null; then strip "$root/bin/$2"; fi
    ldd "$1" | grep -o '/[^ ]*' | while read -r library; do
        mkdir -p "$root${library%/*}"
        cp -L "$library" "$root$library"
    done
}
install_program "$tests" it
install_program "$tracepoints" tracepoints
install_program "$command_tests" command-tests
# Tests want these as distributions have them; BusyBox's shell removes files itself.
for program in rm setpriv sh; do
    if path=$(command -v "$program"); then install_program "$path" "$program"; fi
done
cp "$busybox" "$root/bin/busybox"
cp tests/vm/init "$root/init"
# Tests compare with captured kernels, where the checkout has them.
mkdir -p "$root$PWD/tests/fixtures"
for fixture in 6.1.192-rt-x86_64 6.18.15-x86_64 7.3.4-x86_64; do
    cp -r "tests/fixtures/$fixture" "$root$PWD/tests/fixtures/"
done
# Programs in C are compiled here, once for all kernels: guests have no clang.
TRACEPOINTS_WRITE_ACCESSORS=$root/etc/accessors.o TRACEPOINTS_WRITE_OFFSETS=$root/etc/offsets.o \
    "$tests" --quiet the_object_for_other_kernels >/dev/null

# A module and those it needs, in the order they are loaded in.
add_module() {
    local file copy needed
    copy=$root/lib/modules/${1//-/_}.ko
    if [ -e "$copy" ]; then return 0; fi
    file=$(find "$modules" -type f | grep -E "$(module_path "$1")" | head -n 1) || true
    if [ -z "$file" ]; then return 0; fi # Built in.
    decompressed "$file" >"$copy"
    for needed in $(depends <"$copy"); do add_module "$needed"; done
    echo "${1//-/_}" >>"$root/etc/modules"
}
touch "$root/etc/modules"
for module in $disk_modules "$@"; do add_module "$module"; done

# Which tests, and how: arguments and environment as here; or something else.
if [ -n "${VM_COMMAND:-}" ]; then printf '%s\n' "$VM_COMMAND" >"$root/etc/command"; fi
{
    echo "arguments='${VM_TESTS:-probe:: sites:: ground_truth::running_kernel:: emit::accessors::running:: set_at_start}'"
    if [ -e "$root/etc/accessors.o" ]; then
        echo "export TRACEPOINTS_ACCESSORS=/etc/accessors.o TRACEPOINTS_OFFSETS=/etc/offsets.o"
    fi
    for name in TRACEPOINTS_ALL_EVENTS RUST_BACKTRACE; do
        if [ -n "${!name:-}" ]; then echo "export $name='${!name}'"; fi
    done
} >"$root/etc/tests"

(cd "$root" && find . | "$busybox" cpio -o -H newc 2>"$work/cpio.log") | gzip -1 >"$work/initramfs"

# Files are written to the first disk; the second takes the report, because a
# second serial line loses bytes on PREEMPT_RT kernels.
truncate -s 64M "$work/files"
"$mkfs" -q "$work/files"
truncate -s 16M "$work/report"

begin=$SECONDS
status=0
timeout "$timeout" "$qemu" -accel tcg -machine pc -cpu "${VM_CPU:-qemu64}" -smp 2 -m 1G \
    -nodefaults -display none -no-reboot \
    -kernel "$vmlinuz" -initrd "$work/initramfs" \
    -append "console=ttyS0 panic=-1 loglevel=${VM_LOGLEVEL:-4} mitigations=off" \
    -drive "file=$work/files,format=raw,if=ide,index=0,cache=unsafe" \
    -drive "file=$work/report,format=raw,if=ide,index=1,cache=unsafe" \
    -serial "file:$work/console" || status=$?

tr -d '\0' <"$work/report" >"$work/report.txt"
if [ -n "${VM_OUT:-}" ]; then
    mkdir -p "$VM_OUT"
    cp "$work/report.txt" "$work/console" "$VM_OUT/"
fi
outcome=$(sed -n 's/^== ended with \([0-9]*\)$/\1/p' "$work/report.txt")
if [ -z "$outcome" ]; then
    # What there is of a report may be old: the console has all that was said.
    cat "$work/console"
    if [ "$status" = 124 ]; then
        echo "FAILED: the guest did not end in $timeout s" >&2
    else
        echo "FAILED: the guest died (QEMU's status: $status)" >&2
    fi
    exit 1
fi
cat "$work/report.txt"
echo "$((SECONDS - begin)) s in all"
exit "$outcome"
