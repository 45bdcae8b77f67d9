#!/usr/bin/env bash
# Fuzzes each target, or those named, on stable Rust: see README.md.
set -euo pipefail

usage() {
    echo "usage: fuzz/run.sh [--seconds N] [--jobs N] [--asan] [--seed N] [--corpus DIR] [--logs DIR] [TARGET…]" >&2
    exit 2
}

here=$(cd "$(dirname "$0")" && pwd)
seconds=60 jobs=1 seed=0 asan='' corpus=$here/corpus logs=$here/logs
targets=()
while [ $# -gt 0 ]; do
    case $1 in
        --seconds) seconds=${2:?}; shift ;;
        --jobs) jobs=${2:?}; shift ;;
        --seed) seed=${2:?}; shift ;;
        --corpus) corpus=${2:?}; shift ;;
        --logs) logs=${2:?}; shift ;;
        --asan) asan=1 ;;
        -*) usage ;;
        *) targets+=("$1") ;;
    esac
    shift
done
known=(available_events format declaration print_fmt print_eval btf split_btf ring_page trace_dat perf_data filter captured_root bpf_object
    image image_kallsyms image_module image_tables archive)
[ ${#targets[@]} -gt 0 ] || targets=("${known[@]}")
for target in "${targets[@]}"; do
    [ -f "$here/fuzz_targets/$target.rs" ] || { echo "no target $target: ${known[*]}" >&2; exit 2; }
done

# The longest input, in bytes.
longest() {
    case $1 in
        available_events | declaration | filter) echo 4096 ;;
        print_fmt) echo 8192 ;;
        btf | split_btf | bpf_object) echo 65536 ;;
        captured_root) echo 32768 ;;
        image | image_kallsyms) echo 262144 ;;
        *) echo 16384 ;;
    esac
}

# As `cargo fuzz` does it, which wants a nightly toolchain for sanitizers alone. With
# the machine named, build scripts and procedural macros are not instrumented.
machine=$(rustc -vV | sed -n 's/^host: //p')
flags="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares
    -Cdebug-assertions -Coverflow-checks -Ccodegen-units=1"
built=$here/target
if [ -n "$asan" ]; then
    # The runtime comes with stable toolchains, its switch does not.
    export RUSTC_BOOTSTRAP=1
    flags="$flags -Zsanitizer=address"
    built=$here/target/asan
fi
flags=$(echo $flags)

mkdir -p "$corpus" "$logs"
corpus=$(cd "$corpus" && pwd) logs=$(cd "$logs" && pwd)
RUSTFLAGS="" cargo run --quiet --manifest-path "$here/Cargo.toml" --target-dir "$here/target" \
    --example seeds -- "$corpus/.seeds"
bins=()
for target in "${targets[@]}"; do bins+=(--bin "$target"); done
RUSTFLAGS=$flags cargo build --release --manifest-path "$here/Cargo.toml" \
    --target "$machine" --target-dir "$built" "${bins[@]}"

# What inputs write is gone after them, whatever becomes of the fuzzer.
scratch=$(mktemp -d -p "$([ -w /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")")
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$scratch"' EXIT

# A crash, a timeout and running out of memory all end a target's run.
fuzz() {
    local target=$1 work=$scratch/$1 status=0
    mkdir -p "$work" "$corpus/$target" "$here/artifacts/$target"
    # Its own, so that what runs is not changed by the next build.
    cp "$built/$machine/release/$target" "$work/fuzzer"
    TMPDIR=$work ASAN_OPTIONS=${ASAN_OPTIONS:-detect_odr_violation=0} \
        "$work/fuzzer" "$corpus/$target" "$corpus/.seeds/$target" \
        -dict="$here/$target.dict" -artifact_prefix="$here/artifacts/$target/" \
        -max_len="$(longest "$target")" -timeout=10 -rss_limit_mb=2048 \
        -max_total_time="$seconds" -seed="$seed" -print_final_stats=1 >"$logs/$target.log" 2>&1 || status=$?
    echo "$status" >"$work/status"
}

running=0
for target in "${targets[@]}"; do
    if [ "$running" -ge "$jobs" ]; then
        wait -n
        running=$((running - 1))
    fi
    fuzz "$target" &
    running=$((running + 1))
done
wait

failed=0
row='%-17s %12s %8s %7s %7s %7s %7s %s\n'
printf "$row" target executions exec/s cov ft corpus crashes result
for target in "${targets[@]}"; do
    log=$logs/$target.log
    stat() { sed -n "s/^stat::$1: *//p" "$log" | tail -n 1; }
    last=$(grep -E '^#[0-9]+.* cov: ' "$log" | tail -n 1 || true)
    of_last() { sed -n "s/.* $1: \([0-9]*\).*/\1/p" <<<"$last"; }
    result=ok crashes=0
    if [ "$(cat "$scratch/$target/status")" != 0 ]; then
        failed=1 crashes=1
        result=$(sed -n 's/.*Test unit written to .*\/artifacts\//artifacts\//p' "$log" | tail -n 1)
        result=${result:-"see $log"}
    fi
    printf "$row" "$target" "$(stat number_of_executed_units)" "$(stat average_exec_per_sec)" \
        "$(of_last cov)" "$(of_last ft)" "$(of_last corp)" "$crashes" "$result"
done
exit "$failed"
