# Sourced by the scripts here: which modules a guest needs, and what a module needs.
# shellcheck shell=bash

# For its disks: where these are built in, or are no modules any more, nothing is loaded.
disk_modules="ata_piix sd_mod crc32c_generic ext4"

# A module's file, whose name has `-` where the module's has `_`, as an extended regular
# expression for the end of its path.
module_path() { echo "/${1//[-_]/[-_]}\.ko(\.(xz|zst|gz))?$"; }

# The module itself.
decompressed() {
    case $1 in
        *.xz) xz -dc "$1" ;;
        *.zst) zstd -dc "$1" ;;
        *.gz) gzip -dc "$1" ;;
        *) cat "$1" ;;
    esac
}

# The modules that the module on standard input depends on.
depends() { tr '\0' '\n' | sed -n 's/^depends=//p' | tr ',' ' '; }
