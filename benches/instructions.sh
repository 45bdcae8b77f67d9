#!/usr/bin/env bash
# Counts the instructions of each stage of discovery over the fixtures, and fails
# where one takes over 5% more than benches/instructions.txt says. Unlike times,
# counts are the same on a busy machine.
#
#     benches/instructions.sh            compares
#     benches/instructions.sh --renew    writes the counts anew, to be committed
#
# Another compiler makes other code: then nothing is compared, and it says so.
set -euo pipefail
cd "$(dirname "$0")/.."

baseline=benches/instructions.txt
compiler="$(rustc --version), $(uname -m)"
stages="available_events format_parse btf_index resolution contexts emit json"

if [ "${1:-}" != --renew ] && [ "$(head -n 1 "$baseline")" != "$compiler" ]; then
    echo "NOT COMPARED: the counts are of $(head -n 1 "$baseline")"
    echo "and this is $compiler: benches/instructions.sh --renew"
    exit 0
fi

built=$(cargo bench --features bench --bench count --no-run 2>&1)
program=$(sed -n 's/^ *Executable.*(\(.*\))$/\1/p' <<<"$built")
[ -x "$program" ] || { echo "$built" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
count() {
    valgrind --tool=callgrind --callgrind-out-file="$work/out" "$program" "$1" 2>"$work/log" ||
        { cat "$work/log" >&2; exit 1; }
    sed -n 's/^.*Collected : \([0-9]*\)$/\1/p' "$work/log"
}

if [ "${1:-}" = --renew ]; then
    { echo "$compiler"; for stage in $stages; do echo "$stage $(count "$stage")"; done; } >"$work/new"
    mv "$work/new" "$baseline"
    cat "$baseline"
    exit 0
fi

failed=0
for stage in $stages; do
    before=$(sed -n "s/^$stage //p" "$baseline")
    now=$(count "$stage")
    [ -n "$before" ] && [ -n "$now" ] || { echo "no count of $stage" >&2; exit 1; }
    awk -v stage="$stage" -v now="$now" -v before="$before" 'BEGIN {
        change = 100 * (now - before) / before
        printf "%-18s %12d, was %12d: %+.1f%%\n", stage, now, before, change
        exit change > 5
    }' || failed=1
done
if [ "$failed" = 1 ]; then
    echo "over 5% more instructions than $baseline; if they are worth it: benches/instructions.sh --renew" >&2
    exit 1
fi
