#!/usr/bin/env bash
# Runs the live tests on a kernel of Debian's, by default the PREEMPT_RT one: gets
# the kernel and BusyBox, unpacked and not installed, and installs QEMU. Where these
# cannot be had, says SKIPPED.
set -euo pipefail
cd "$(dirname "$0")/../.."
image=${1:-linux-image-rt-amd64}
work=$PWD/target/vm

skip() { echo "SKIPPED: $*" >&2; exit 0; }
[ "$(uname -m)" = x86_64 ] || skip "the guest is x86-64 alone"
[ "$(id -u)" = 0 ] || skip "installing QEMU takes root"
command -v apt-get >/dev/null || skip "this is not Debian"
rm -rf "$work"
mkdir -p "$work"

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
for package in "$work"/*.deb; do dpkg-deb -x "$package" "$work/root"; done
echo "${newest:-$image}"
# /usr is where newer packages have these.
BUSYBOX=$(find "$work/root" -name busybox -type f -perm -u+x | head -n 1) \
    tests/vm/run.sh "$work"/root/boot/vmlinuz-* \
    "$(find "$work/root" -path '*lib/modules/*' -prune -type d | head -n 1)"
