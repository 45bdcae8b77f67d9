#!/usr/bin/env bash
# The tests under what sees the errors unsafe code can make. As root with those on the
# running kernel.
#
#     tests/sanitize.sh [address] [thread] [miri]      all that can run, if none is named
#
# AddressSanitizer comes with the stable toolchain, and takes leave to be used there.
# ThreadSanitizer wants a standard library built for it: a nightly toolchain with
# rust-src. So does Miri, which has a component of its own.
set -euo pipefail
cd "$(dirname "$0")/.."
target=$(rustc -vV | sed -n 's/^host: //p')
# Tests whose work is done in this process, not by the command.
tests="concurrent_change:: failures:: untrusted:: layout:: print_fmts:: probe::
    raw_tracepoints:: resolution:: ring:: round_trip::"

# What Miri, some thousand times slower, ends within minutes: not what reads whole BTF
# objects, as the programs' own tests do, nor hundreds of random cases.
interpreted="--skip btf::tests::both_readers --skip btf::tests::damaged
    --skip btf::tests::declarators --skip no_event_has_so_many_fields --skip many_words
    --skip likeness_is_that --skip wildcard --skip probe::offline
    --skip kernel::tests --skip an_id_that_is_used_again"

# What must end within seconds, and does not where all code is some ten times slower.
timed="--skip many_words_in_a_list --skip sizes_without_end"

step() { printf '\n== %s\n' "$*"; }
nightly_has() { rustup component list --toolchain nightly --installed 2>/dev/null | grep -q "^$1"; }

address() {
    step "AddressSanitizer, leaks included"
    export RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address"
    export ASAN_OPTIONS=detect_stack_use_after_return=1
    cargo test --target "$target" --target-dir target/sanitize/address --lib
    cargo test --target "$target" --target-dir target/sanitize/address --test it -- \
        $tests
}

thread() {
    step "ThreadSanitizer"
    nightly_has rust-src || { echo "SKIPPED: no nightly toolchain with rust-src" >&2; return; }
    export RUSTFLAGS="-Zsanitizer=thread"
    cargo +nightly test -Zbuild-std --target "$target" --target-dir target/sanitize/thread --lib \
        -- $timed
    cargo +nightly test -Zbuild-std --target "$target" --target-dir target/sanitize/thread \
        --test it -- concurrent_change:: untrusted:: resolution::
}

# What makes system calls of its own (mapping, bpf(2), processes) Miri cannot run.
miri() {
    step "Miri"
    nightly_has miri && nightly_has rust-src ||
        { echo "SKIPPED: no nightly toolchain with Miri" >&2; return; }
    INSTA_WORKSPACE_ROOT=$PWD INSTA_UPDATE=no \
        MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-permissive-provenance" \
        cargo +nightly miri test --no-default-features --features probe --lib \
        --target-dir target/sanitize/miri -- $interpreted
}

for one in "${@:-address thread miri}"; do
    for one in $one; do ("$one"); done
done
