//! Patch sites: the places where code tests a tracepoint's key, and the instruction at
//! each.
//!
//! The compiler writes a no-op at each site, and an entry into the section `__jump_table`:
//! the site, the target of its jump, and the key (`struct jump_entry`,
//! `include/linux/jump_label.h`). The kernel writes a jump over the no-op while the key is
//! enabled (`arch/x86/kernel/jump_label.c`, `arch/arm64/kernel/jump_label.c`).

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::machine::Machine;

/// A site of a tracepoint, in the kernel's code.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PatchSite {
    /// The site's address. For a module's file, which has no addresses before it is
    /// loaded, the offset in bytes in the site's section.
    #[serde(serialize_with = "as_hex", deserialize_with = "of_hex")]
    pub address: u64,
    /// The function that contains the site; `None` if the kernel has no symbol for it, or
    /// the site was freed.
    pub location: Option<CodeLocation>,
    /// The bytes of the instruction at the site: 2, 4 or 5 if it is known, at most 5
    /// otherwise. Empty if the site was freed, or cannot be read.
    #[serde(serialize_with = "as_hex_bytes", deserialize_with = "of_hex_bytes")]
    pub bytes: Vec<u8>,
    /// The kind of that instruction.
    pub state: PatchState,
    /// The target of the jump when the site is patched: an address or offset, like
    /// `address`.
    #[serde(serialize_with = "as_hex", deserialize_with = "of_hex")]
    pub target: u64,
    /// The function that contains the target; `None` as for `location`.
    pub target_location: Option<CodeLocation>,
}

/// The instruction at a patch site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PatchState {
    /// The no-op: the tracepoint is off here.
    Nop,
    /// The jump to the site's target: the tracepoint is on.
    Jump,
    /// The site was in code that the kernel freed after it had started.
    Freed,
    /// Neither instruction: the site is being patched right now, it cannot be read, or the
    /// machine's code is not known.
    Other,
}

impl PatchState {
    /// Returns the state in a word: `nop`, `jump`, `freed` or `other`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nop => "nop",
            Self::Jump => "jump",
            Self::Freed => "freed",
            Self::Other => "other",
        }
    }
}

/// A place in the kernel's code: a function, and an offset in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CodeLocation {
    /// The function's name, as the kernel's symbols have it.
    pub function: String,
    /// The offset from the function's start, in bytes.
    pub offset: u64,
    /// The function's size in bytes, with padding.
    pub size: u64,
    /// The module that contains the function; `None` if it is built in, `bpf` for BPF
    /// programs.
    pub module: Option<String>,
}

impl CodeLocation {
    /// Parses the text that `%pS` prints: `name+0x1/0x20`, followed by ` [module]` for a
    /// function of a module.
    pub(crate) fn parse(printed: &str) -> Option<Self> {
        let (symbol, module) = match printed.split_once(' ') {
            Some((symbol, module)) => {
                let module = module.strip_prefix('[')?.strip_suffix(']')?;
                (symbol, Some(module.to_owned()))
            }
            None => (printed, None),
        };
        let (function, place) = symbol.rsplit_once('+')?;
        let (offset, size) = place.split_once('/')?;
        let number = |text: &str| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok();
        Some(Self {
            function: function.to_owned(),
            offset: number(offset)?,
            size: number(size)?,
            module,
        })
    }
}

/// Writes `netif_rx_internal+0x2d`, followed by ` [module]` for a function of a module.
impl std::fmt::Display for CodeLocation {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}+{:#x}", self.function, self.offset)?;
        match &self.module {
            Some(module) => write!(out, " [{module}]"),
            None => Ok(()),
        }
    }
}

/// The instruction set of a machine's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InstructionSet {
    X86,
    Arm64,
    /// Another instruction set: bytes are shown, but not understood.
    Unknown,
}

impl InstructionSet {
    /// The instruction set of the machine this code is compiled for.
    pub(crate) const NATIVE: Self = match () {
        () if cfg!(any(target_arch = "x86_64", target_arch = "x86")) => Self::X86,
        () if cfg!(target_arch = "aarch64") => Self::Arm64,
        () => Self::Unknown,
    };

    /// The most bytes of a site.
    pub(crate) const LONGEST: usize = 5;

    /// Returns the length in bytes of the instruction at a site, and its kind.
    pub(crate) fn read(self, code: &[u8], address: u64, target: u64) -> (usize, PatchState) {
        let jump = |length: usize, distance: i64| {
            let after = address.wrapping_add(length as u64);
            match after.wrapping_add_signed(distance) == target {
                true => (length, PatchState::Jump),
                false => (length, PatchState::Other),
            }
        };
        match (self, code) {
            (Self::X86, [0x0f, 0x1f, 0x44, 0, 0, ..]) => (5, PatchState::Nop),
            // Since Linux 5.14 a site has two bytes where the target is near.
            (Self::X86, [0x66, 0x90, ..]) => (2, PatchState::Nop),
            (Self::X86, [0xe9, distance @ ..]) => match distance.first_chunk() {
                Some(distance) => jump(5, i32::from_le_bytes(*distance).into()),
                None => (code.len(), PatchState::Other),
            },
            (Self::X86, [0xeb, distance, ..]) => jump(2, (*distance as i8).into()),
            (Self::Arm64, [a, b, c, d, ..]) => match u32::from_le_bytes([*a, *b, *c, *d]) {
                0xd503_201f => (4, PatchState::Nop),
                // The distance counts instructions, from the jump itself.
                word if word >> 26 == 0b000_101 => {
                    let distance = i64::from((word << 6) as i32 >> 6) * 4;
                    jump(4, distance - 4)
                }
                _ => (4, PatchState::Other),
            },
            _ => (code.len().min(Self::LONGEST), PatchState::Other),
        }
    }
}

/// The layout of `struct jump_entry`: its size, and the offsets of members, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JumpLayout {
    pub(crate) size: usize,
    pub(crate) target: u64,
    pub(crate) key: u64,
    /// Whether members are distances from themselves (`s32 code`), or addresses.
    pub(crate) is_relative: bool,
}

/// An entry of a jump table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JumpEntry {
    pub(crate) site: u64,
    pub(crate) target: u64,
    pub(crate) key: u64,
    /// Whether the site is in code that is freed after initialization.
    pub(crate) is_in_init: bool,
}

impl JumpLayout {
    /// Iterates over the entries of a table that is at the address `start`.
    pub(crate) fn entries(
        self,
        table: &[u8],
        start: u64,
        machine: Machine,
    ) -> impl Iterator<Item = JumpEntry> {
        // Flags in the key's low bits. The other flag says whether the branch is likely.
        const IS_IN_INIT: u64 = 2;
        const FLAGS: u64 = 3;
        let long = machine.long_size() as usize;
        let chunks = table.chunks_exact(self.size.max(1)).enumerate();
        chunks.map(move |(index, entry)| {
            let at = start.wrapping_add((index * self.size) as u64);
            let distance = |offset: u64| machine.signed(member(entry, offset, 4));
            let word = |offset: u64| machine.unsigned(member(entry, offset, long));
            let flagged = word(self.key);
            let (site, target, key) = match self.is_relative {
                true => (
                    at.wrapping_add_signed(distance(0)),
                    at.wrapping_add(self.target)
                        .wrapping_add_signed(distance(self.target)),
                    at.wrapping_add(self.key).wrapping_add(flagged & !FLAGS),
                ),
                false => (word(0), word(self.target), flagged & !FLAGS),
            };
            JumpEntry {
                site,
                target,
                key,
                is_in_init: flagged & IS_IN_INIT != 0,
            }
        })
    }
}

/// Returns the bytes of a member, as far as the entry has them.
fn member(entry: &[u8], at: u64, size: usize) -> &[u8] {
    let bytes = entry.get(at as usize..).unwrap_or_default();
    &bytes[..bytes.len().min(size)]
}

impl PatchSite {
    /// Makes a site from its entry and the bytes at its address.
    pub(crate) fn new(
        set: InstructionSet,
        entry: &JumpEntry,
        code: Option<&[u8]>,
        location: Option<CodeLocation>,
        target_location: Option<CodeLocation>,
    ) -> Self {
        let (length, state) = match code {
            _ if entry.is_in_init => (0, PatchState::Freed),
            Some(code) => set.read(code, entry.site, entry.target),
            None => (0, PatchState::Other),
        };
        let code = code.unwrap_or_default();
        Self {
            address: entry.site,
            location: location.filter(|_| !entry.is_in_init),
            bytes: code.get(..length).unwrap_or_default().to_vec(),
            state,
            target: entry.target,
            target_location: target_location.filter(|_| !entry.is_in_init),
        }
    }
}

fn as_hex<S: Serializer>(address: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    // As text, because many readers of JSON keep only 53 bits of a number.
    serializer.collect_str(&format_args!("{address:#x}"))
}

fn of_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    let digits = text.strip_prefix("0x");
    let address = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    address.ok_or_else(|| D::Error::custom(format!("{text:?} is not an address, such as 0x1f")))
}

fn as_hex_bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    serializer.serialize_str(&text)
}

fn of_hex_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let digits = text.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            Some((digit(*high)? << 4 | digit(*low)?) as u8)
        }
        _ => None,
    });
    let bytes: Option<Vec<u8>> = digits.collect();
    bytes.ok_or_else(|| D::Error::custom(format!("{text:?} is not bytes in hexadecimal")))
}
