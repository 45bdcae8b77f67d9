#!/usr/bin/env bash
# Runs the live tests on a kernel of Debian's, by default the PREEMPT_RT one: gets the
# kernel and BusyBox, unpacks what the guest needs of them, and installs QEMU. Where these
# cannot be had, says SKIPPED.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/vm/modules.sh
image=${1:-linux-image-rt-amd64}
shift $(($# > 0))
work=$PWD/target/vm

skip() { echo "SKIPPED: $*" >&2; exit 0; }
[ "$(uname -m)" = x86_64 ] || skip "the guest is x86-64 only"
[ "$(id -u)" = 0 ] || skip "installing QEMU takes root"
command -v apt-get >/dev/null || skip "this is not Debian"
rm -rf "$work"
mkdir -p "$work/root"
trap 'rm -rf "$work"' EXIT

PATH=$PATH:/usr/sbin:/sbin
apt-get update -qq || skip "there are no packages to be had"
if ! command -v qemu-system-x86_64 >/dev/null || ! command -v mkfs.ext4 >/dev/null; then
    apt-get install -qq -y --no-install-recommends qemu-system-x86 e2fsprogs >/dev/null ||
        skip "no QEMU to be had"
fi

# A package of no version depends on the newest one's.
newest=$(apt-cache depends "$image" | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p') ||
    skip "no package $image to be had"
(cd "$work" && apt-get download -qq "${newest:-$image}" busybox-static 2>"$work/apt.log") ||
    skip "no kernel to be had: $(cat "$work/apt.log")"
dpkg-deb -x "$work"/busybox-static_*.deb "$work/busybox"

# A kernel's package is half a gigabyte unpacked, a guest loads a few of its files: the
# kernel, the modules it is to have, and then those that the last ones unpacked depend on.
package=$(echo "$work"/linux-image-*.deb)
dpkg-deb --fsys-tarfile "$package" | tar -t >"$work/files"
grep -E '/boot/vmlinuz-[^/]*$' "$work/files" >"$work/wanted"
modules=("$@")
# shellcheck disable=SC2206 # several words
modules+=($disk_modules)
while
    for module in "${modules[@]}"; do
        grep -E "$(module_path "$module")" "$work/files" >>"$work/wanted" || true # Built in.
    done
    sort -u -o "$work/wanted" "$work/wanted"
    # Each file once: modules depend on some in common.
    grep -vxFf "$work/wanted" "$work/files" >"$work/others" || true
    mv "$work/others" "$work/files"
    [ -s "$work/wanted" ]
do
    dpkg-deb --fsys-tarfile "$package" | tar -x -C "$work/root" -T "$work/wanted"
    modules=()
    while read -r file; do
        case $file in
            *.ko*) read -r -a needed < <(decompressed "$work/root/$file" | depends) || true ;;
            *) needed=() ;;
        esac
        modules+=("${needed[@]}")
    done <"$work/wanted"
    : >"$work/wanted"
done
rm "$package"

echo "${newest:-$image}"
# /usr is where newer packages have these.
BUSYBOX=$(find "$work/busybox" -name busybox -type f -perm -u+x | head -n 1) \
    tests/vm/run.sh "$work"/root/boot/vmlinuz-* \
    "$(find "$work/root" -path '*lib/modules/*' -prune -type d | head -n 1)" "$@"
