//! Names of C's integer types, and of the kernel's.

/// An integer type, as far as its name tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IntegerType {
    pub(crate) width: Width,
    pub(crate) signed: bool,
    /// Whether the type is `bool`, in which every value except 0 becomes 1.
    pub(crate) is_bool: bool,
}

/// The size of an integer type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    /// This many bytes on every machine.
    Fixed(u32),
    /// The size of a `long`.
    Long,
    /// 8 bytes on 64-bit machines; on others the kernel's configuration decides.
    LongOrMore,
}

impl Width {
    /// Returns the size in bytes on a machine whose `long` has `long` bytes; `None` if
    /// only the kernel's configuration tells.
    pub(crate) fn size(self, long: u32) -> Option<u32> {
        match self {
            Self::Fixed(size) => Some(size),
            Self::Long => Some(long),
            Self::LongOrMore => (long == 8).then_some(8),
        }
    }
}

impl IntegerType {
    /// Returns the type of this name; `None` if the name does not determine size and sign.
    ///
    /// The known names are those of C's types, of the kernel's types of fixed size
    /// (`include/uapi/asm-generic/int-ll64.h`, `include/linux/types.h`), of types that its
    /// interface to programs fixes on every machine
    /// (`include/uapi/asm-generic/posix_types.h` and others), and of some types that print
    /// fmts cast to.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        let (width, signed) = match name {
            "char" | "signed char" | "s8" | "__s8" | "int8_t" => (Width::Fixed(1), true),
            "unsigned char" | "u8" | "__u8" | "uint8_t" | "bool" | "_Bool" => {
                (Width::Fixed(1), false)
            }
            "short" | "short int" | "s16" | "__s16" | "int16_t" => (Width::Fixed(2), true),
            "unsigned short" | "unsigned short int" | "short unsigned int" | "ushort" | "u16"
            | "__u16" | "uint16_t" | "__be16" | "__le16" | "umode_t" => (Width::Fixed(2), false),
            "int" | "signed" | "signed int" | "s32" | "__s32" | "int32_t" | "pid_t"
            | "clockid_t" | "timer_t" | "mqd_t" | "key_t" | "key_serial_t" | "rwf_t"
            | "__kernel_rwf_t" => (Width::Fixed(4), true),
            "unsigned" | "unsigned int" | "uint" | "u32" | "__u32" | "uint32_t" | "__be32"
            | "__le32" | "uid_t" | "gid_t" | "qid_t" | "dev_t" | "gfp_t" | "fmode_t"
            | "blk_opf_t" | "OM_uint32" => (Width::Fixed(4), false),
            "long long" | "long long int" | "s64" | "__s64" | "int64_t" | "loff_t" | "ktime_t" => {
                (Width::Fixed(8), true)
            }
            "unsigned long long"
            | "unsigned long long int"
            | "long long unsigned int"
            | "u64"
            | "__u64"
            | "uint64_t"
            | "__be64"
            | "__le64" => (Width::Fixed(8), false),
            "long" | "long int" | "signed long" | "ssize_t" | "off_t" | "intptr_t" => {
                (Width::Long, true)
            }
            "unsigned long" | "unsigned long int" | "long unsigned int" | "ulong" | "size_t"
            | "uintptr_t" | "aio_context_t" => (Width::Long, false),
            "sector_t" | "dma_addr_t" | "phys_addr_t" | "resource_size_t" | "blkcnt_t" => {
                (Width::LongOrMore, false)
            }
            _ => return None,
        };
        Some(Self {
            width,
            signed,
            is_bool: matches!(name, "bool" | "_Bool"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_on_both_kinds_of_machine() {
        for (name, expected) in [
            ("_Bool", Some((Some(1), Some(1), false))),
            ("short unsigned int", Some((Some(2), Some(2), false))),
            ("key_serial_t", Some((Some(4), Some(4), true))),
            ("unsigned long", Some((Some(4), Some(8), false))),
            ("loff_t", Some((Some(8), Some(8), true))),
            ("sector_t", Some((None, Some(8), false))),
            ("unsigned  int", None),
            ("enum pid_type", None),
            ("", None),
        ] {
            let found = IntegerType::of_name(name);
            let sizes = found.map(|it| (it.width.size(4), it.width.size(8), it.signed));
            assert_eq!(sizes, expected, "{name}");
        }
    }
}
