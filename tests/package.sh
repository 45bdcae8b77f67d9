#!/usr/bin/env bash
# Builds the package that would be published and tests it alone, away from this checkout:
# its size, its doctests and examples, and that each link between its documents leads to
# a file it has. Also packs and builds the command, as it would be published.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$PWD/target/packaged
unpacked=$(mktemp -d)
trap 'rm -rf "$unpacked"' EXIT

# Whatever else is wrong is shown as well.
failed=0
fail() { echo "$*" >&2; failed=1; }

rm -f "$target"/package/tracepoints-*.crate
cargo package --package tracepoints --allow-dirty --no-verify --quiet --target-dir "$target"
crate=$(echo "$target"/package/tracepoints-[0-9]*.crate)
size=$(stat -c %s "$crate")
echo "$(basename "$crate"): $size bytes"
[ "$size" -lt 1000000 ] || fail "the package has 1,000,000 bytes or more"
tar -xzf "$crate" -C "$unpacked" --strip-components 1

# Relative links, without their anchors. crates.io resolves them in the repository, which
# has all that the package has.
while IFS=: read -r document link; do
    [ -e "$(dirname "$document")/$link" ] ||
        fail "${document#"$unpacked"/}: links to $link, which the package lacks"
done < <(cd "$unpacked" && find . -name '*.md' -print0 |
    xargs -0 grep -HoP '\]\(\K(?![a-z]+:|#)[^)#\s]+' | sed "s|^\./|$unpacked/|")

# Both packages, the command built with the library as it is packed. Publishes nothing.
# An earlier run's library of the same version is removed first, unpacked and built: cargo takes
# it for this one. Registries whose names begin with - are directories of this machine.
rm -rf "${CARGO_HOME:-$HOME/.cargo}"/registry/src/-*/tracepoints-[0-9]*
cargo clean --quiet --package tracepoints --target-dir "$target"
cargo publish --workspace --dry-run --allow-dirty --quiet --target-dir "$target" ||
    fail "the packages would not be published"

cd "$unpacked"
export CARGO_PROFILE_DEV_DEBUG=false
# Of an earlier run's package: cargo takes this one for another.
cargo clean --quiet --package tracepoints --target-dir "$target"
cargo test --doc --locked --target-dir "$target" || fail "doctests fail in the package"
cargo build --examples --quiet --locked --target-dir "$target" ||
    fail "the package's examples do not build"
exit "$failed"
