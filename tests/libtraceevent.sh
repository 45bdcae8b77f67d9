#!/usr/bin/env bash
# Prints the captured records once by libtraceevent and once by this crate, and
# compares the texts. Takes libtraceevent's headers (Debian: libtraceevent-dev), a C
# compiler, and TRACEPOINTS_CORPUS, the directory of whole captured kernels.
#
# Where both differ, the kernel's own lines (ring/trace.txt) were asked:
# tests/it/ground_truth/trace_lines.rs holds this crate to every one of them. So the kinds
# of differences are known, and any other is a failure:
#
# syscall      the kernel has an own form for system calls, libtraceevent takes
#              their print fmt
# unparsed     libtraceevent gives up on the print fmt: [FAILED TO PARSE]
# null         a null pointer is (nil) there, and zeros for the kernel
# enumerator   an enumerator left by name is a number there; we know it from BTF
# table        it takes enumerators in a table of flags for 0 (writeback), or the whole
#              field where the print fmt has some of its bits (timer_start)
# zero         %#x of 0 is 0x0 for the kernel, and 0 in C libraries
# digits       a pointer has all its digits for the kernel, leading zeros too
# vmemmap      a pointer made from the kernel's vmemmap_base, which neither knows:
#              libtraceevent takes it for 0
set -euo pipefail
cd "$(dirname "$0")/.."

if ! pkg-config --exists libtraceevent || ! command -v cc >/dev/null; then
    echo "SKIPPED: libtraceevent: there are no headers of it, or no C compiler" >&2
    exit 0
fi
corpus=${TRACEPOINTS_CORPUS:?names no directory of whole captured kernels}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
# shellcheck disable=SC2046
cc -O2 -Wall -o "$dir/print" tests/libtraceevent.c $(pkg-config --cflags --libs libtraceevent)
cargo build --release --quiet -p tracepoints-cli

for root in "$corpus"/{6.18.15,7.3.4}-x86_64; do
    : > "$dir/theirs"
    : > "$dir/ours"
    for pages in "$root"/ring/cpu*.raw; do
        "$dir/print" "$root" "$pages" >> "$dir/theirs"
        # Without command, pid, CPU, flags and time.
        target/release/tracepoints decode --root "$root" "$pages" |
            sed -E 's/^.{16}-[0-9]+ +\[[0-9]+\] .{4,7} +[0-9]+\.[0-9]+: //' >> "$dir/ours"
    done
    echo "${root##*/}:"
    paste -d '\n' "$dir/ours" "$dir/theirs" | awk '
        { sub(/ +$/, "") }
        NR % 2 { ours = $0; next }
        {
            if (ours == $0) { kinds["equal"]++; next }
            if ($0 ~ /^sys_(enter|exit)_/ && ours ~ /^sys_/) { kinds["syscall"]++; next }
            if ($0 ~ /\[FAILED TO PARSE\]/) { kinds["unparsed"]++; next }
            if ($0 ~ /^(timer_start|writeback_[a-z_]*inode[a-z_]*): /) { kinds["table"]++; next }
            kind = ""
            count = split(ours, a, /[ ,=]/)
            if (split($0, b, /[ ,=]/) != count) kind = "unexplained"
            for (i = 1; i <= count && kind != "unexplained"; i++) {
                # As texts: some awks know hexadecimal.
                if (a[i] "" == b[i] "") continue
                if (a[i] == "0000000000000000" && b[i] == "(nil)") kind = "null"
                else if (a[i] == "<vmemmap_base>" && b[i] ~ /^0x[0-9a-f]+$/) kind = "vmemmap"
                else if (a[i] ~ /^[A-Z_|]+$/ && b[i] ~ /^0x[0-9a-f]+$/) kind = "enumerator"
                else if (a[i] == "0x0" && b[i] == "0") kind = "zero"
                else if (a[i] ~ /^0x0/ && sub(/^0x0+/, "0x", a[i]) && a[i] "" == b[i] "") kind = "digits"
                else kind = "unexplained"
            }
            if (kind == "") kind = "unexplained"
            kinds[kind]++
            if (kind == "unexplained" && ++shown <= 10) print "unexplained:\n  " ours "\n  " $0
        }
        END {
            for (kind in kinds) printf "  %6d %s\n", kinds[kind], kind
            exit kinds["unexplained"] > 0 || kinds["equal"] == 0
        }'
done
