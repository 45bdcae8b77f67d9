//! Finds where the kernel's structs have their members, from its BTF.

use std::collections::HashMap;

use super::error::ImageError;
use super::memory::ImageMemory;
use crate::btf::{Kind, Section, TypeId};
#[cfg(all(feature = "probe", target_os = "linux"))]
use crate::patch::JumpLayout;

/// The place of a member in its struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MemberBits {
    /// The offset in bits.
    offset: u32,
    /// The size in bits.
    size: u32,
}

impl MemberBits {
    /// Reads the member of the struct at this address.
    pub(super) fn read(self, memory: &ImageMemory, address: u64) -> Option<u64> {
        let first = self.offset / 8;
        let last = self.offset.checked_add(self.size)?.div_ceil(8);
        let at = address.checked_add(first.into())?;
        let size = usize::try_from(last - first)
            .ok()
            .filter(|size| *size <= 8)?;
        let value = memory.unsigned(at, size)?;
        if self.size == 8 * size as u32 {
            return Some(value);
        }
        // Bits are counted from the lowest on little-endian machines, and from the highest
        // on big-endian ones.
        let before = self.offset % 8;
        let shift = match memory.machine().byte_order() {
            crate::machine::ByteOrder::Little => before,
            crate::machine::ByteOrder::Big => 8 * size as u32 - before - self.size,
        };
        Some(value >> shift & ((1 << self.size) - 1))
    }
}

/// A common field of records, a member of `struct trace_entry`.
#[derive(Clone, Debug)]
pub(super) struct CommonField {
    /// The member's name, without `common_`.
    pub(super) name: String,
    /// The type, as the kernel's source spells it.
    pub(super) type_text: String,
    pub(super) offset: u32,
    pub(super) size: u32,
    pub(super) is_signed: bool,
}

/// The structs that describe events, of one kernel.
#[derive(Debug)]
pub(super) struct Structs {
    pub(super) common: Vec<CommonField>,
    /// `sizeof(struct trace_entry)`.
    pub(super) entry_size: u32,
    pub(super) call_class: MemberBits,
    /// For events without a tracepoint.
    pub(super) call_name: MemberBits,
    pub(super) call_tracepoint: MemberBits,
    pub(super) call_print_fmt: MemberBits,
    pub(super) call_flags: MemberBits,
    pub(super) call_data: MemberBits,
    pub(super) class_system: MemberBits,
    pub(super) class_fields: MemberBits,
    pub(super) class_probe: MemberBits,
    pub(super) class_register: MemberBits,
    pub(super) field_stride: u64,
    pub(super) field_type: MemberBits,
    pub(super) field_name: MemberBits,
    pub(super) field_size: MemberBits,
    pub(super) field_align: MemberBits,
    pub(super) field_is_signed: MemberBits,
    /// Kernels that have the member print it as an array's length (6.1.192 has it, 5.10.223
    /// does not).
    pub(super) field_length: Option<MemberBits>,
    pub(super) tracepoint_name: MemberBits,
    /// `None` if the kernel replaces no enumerators.
    pub(super) eval: Option<EvalPlaces>,
    /// `None` without `CONFIG_FTRACE_SYSCALLS`.
    pub(super) syscall: Option<SyscallPlaces>,
    /// `None` without BPF.
    pub(super) raw_map: Option<RawMapPlaces>,
    /// `None` if BTF does not tell the layout of the tables.
    #[cfg(all(feature = "probe", target_os = "linux"))]
    pub(super) sites: Option<SitePlaces>,
    /// `TRACE_EVENT_FL_TRACEPOINT`.
    pub(super) has_tracepoint: u64,
    /// `TRACE_EVENT_FL_IGNORE_ENABLE`.
    pub(super) is_unlisted: u64,
}

/// `struct trace_eval_map`.
#[derive(Debug)]
pub(super) struct EvalPlaces {
    pub(super) system: MemberBits,
    pub(super) name: MemberBits,
    pub(super) value: MemberBits,
}

/// `struct syscall_metadata`, and `struct syscall_trace_enter`.
#[derive(Debug)]
pub(super) struct SyscallPlaces {
    pub(super) name: MemberBits,
    pub(super) argument_count: MemberBits,
    pub(super) types: MemberBits,
    pub(super) arguments: MemberBits,
    pub(super) enter_event: MemberBits,
    /// Whether the data that pointers lead to is recorded (Linux 6.19).
    pub(super) has_pointees: bool,
    /// The offset of the first argument in a record.
    pub(super) first_argument: u32,
}

/// `struct bpf_raw_event_map`.
#[derive(Debug)]
pub(super) struct RawMapPlaces {
    pub(super) tracepoint: MemberBits,
    pub(super) function: MemberBits,
    pub(super) stride: u64,
}

impl Structs {
    pub(super) fn of(section: &Section) -> Result<Self, ImageError> {
        let found = KnownTypes::of(section);
        let call = |member| found.member("trace_event_call", member);
        let class = |member| found.member("trace_event_class", member);
        let field = |member| found.member("trace_event_fields", member);
        let (entry_size, common) = common_fields(&found)?;
        Ok(Self {
            common,
            entry_size,
            call_class: call("class")?,
            call_name: call("name")?,
            call_tracepoint: call("tp")?,
            call_print_fmt: call("print_fmt")?,
            call_flags: call("flags")?,
            call_data: call("data")?,
            class_system: class("system")?,
            class_fields: class("fields_array")?,
            class_probe: class("probe")?,
            class_register: class("reg")?,
            field_stride: found.size("trace_event_fields")?.into(),
            field_type: field("type")?,
            field_name: field("name")?,
            field_size: field("size")?,
            field_align: field("align")?,
            field_is_signed: field("is_signed")?,
            field_length: field("len").ok(),
            tracepoint_name: found.member("tracepoint", "name")?,
            eval: EvalPlaces::of(&found).ok(),
            syscall: SyscallPlaces::of(&found).ok(),
            raw_map: RawMapPlaces::of(&found).ok(),
            #[cfg(all(feature = "probe", target_os = "linux"))]
            sites: SitePlaces::of(&found),
            has_tracepoint: found.enumerator("TRACE_EVENT_FL_TRACEPOINT")?,
            is_unlisted: found.enumerator("TRACE_EVENT_FL_IGNORE_ENABLE")?,
        })
    }
}

/// The way from a tracepoint to its sites.
#[cfg(all(feature = "probe", target_os = "linux"))]
#[derive(Clone, Copy, Debug)]
pub(super) struct SitePlaces {
    /// The offset of the key in `struct tracepoint`, in bytes.
    pub(super) key: u64,
    pub(super) layout: JumpLayout,
    /// The size of an element of the table of tracepoints: 4 bytes are a distance, 8 an
    /// address.
    pub(super) pointer_size: usize,
}

#[cfg(all(feature = "probe", target_os = "linux"))]
impl SitePlaces {
    fn of(found: &KnownTypes<'_>) -> Option<Self> {
        let entry = |member| found.member("jump_entry", member).ok();
        let module = found.id("module")?;
        let (_, pointers) = found.section.member(module, b"tracepoints_ptrs")?;
        let (_, pointer) = found.section.resolve(pointers)?;
        let pointer_size = found.section.size_of(pointer.target()?)? as usize;
        let code = entry("code")?;
        Some(Self {
            key: u64::from(found.member("tracepoint", "key").ok()?.offset / 8),
            layout: JumpLayout {
                size: found.size("jump_entry").ok()? as usize,
                target: u64::from(entry("target")?.offset / 8),
                key: u64::from(entry("key")?.offset / 8),
                // Absolute addresses are as long as the key.
                is_relative: code.size < entry("key")?.size,
            },
            pointer_size: Some(pointer_size).filter(|size| matches!(size, 4 | 8))?,
        })
    }
}

impl EvalPlaces {
    fn of(found: &KnownTypes<'_>) -> Result<Self, ImageError> {
        let map = |member| found.member("trace_eval_map", member);
        Ok(Self {
            system: map("system")?,
            name: map("eval_string")?,
            value: map("eval_value")?,
        })
    }
}

impl SyscallPlaces {
    fn of(found: &KnownTypes<'_>) -> Result<Self, ImageError> {
        let metadata = |member| found.member("syscall_metadata", member);
        Ok(Self {
            name: metadata("name")?,
            argument_count: metadata("nb_args")?,
            types: metadata("types")?,
            arguments: metadata("args")?,
            enter_event: metadata("enter_event")?,
            has_pointees: metadata("user_mask").is_ok(),
            first_argument: found.member("syscall_trace_enter", "args")?.offset / 8,
        })
    }
}

impl RawMapPlaces {
    fn of(found: &KnownTypes<'_>) -> Result<Self, ImageError> {
        let map = |member| found.member("bpf_raw_event_map", member);
        Ok(Self {
            tracepoint: map("tp")?,
            function: map("bpf_func")?,
            stride: found.size("bpf_raw_event_map")?.into(),
        })
    }
}

/// Returns the size of `struct trace_entry` and its members, as
/// `trace_define_common_fields()` defines them.
fn common_fields(found: &KnownTypes<'_>) -> Result<(u32, Vec<CommonField>), ImageError> {
    let missing = || missing("struct trace_entry");
    let id = found.id("trace_entry").ok_or_else(missing)?;
    let entry = found.section.type_by_id(id).ok_or_else(missing)?;
    let mut fields = Vec::new();
    for member in entry.members() {
        let (_, ty) = found.section.resolve(member.type_id).ok_or_else(missing)?;
        let name = str::from_utf8(member.name()).map_err(|_| missing())?;
        fields.push(CommonField {
            name: name.to_owned(),
            type_text: kernel_spelling(ty.name()).ok_or_else(missing)?,
            offset: member.bit_offset / 8,
            size: ty.size(),
            is_signed: ty.is_signed_int(),
        });
    }
    Ok((entry.size(), fields))
}

/// Returns the kernel source's spelling of an integer type, which BTF names as compilers
/// do.
fn kernel_spelling(name: &[u8]) -> Option<String> {
    let text = match name {
        b"short unsigned int" | b"unsigned short" => "unsigned short",
        b"short int" | b"short" => "short",
        b"unsigned char" => "unsigned char",
        b"signed char" => "signed char",
        b"char" => "char",
        b"unsigned int" => "unsigned int",
        b"int" => "int",
        _ => return None,
    };
    Some(text.to_owned())
}

fn missing(what: &str) -> ImageError {
    ImageError::Structs {
        what: what.to_owned(),
    }
}

/// The structs and enumerators that are searched for, found in one pass over all types.
struct KnownTypes<'a> {
    section: &'a Section,
    structs: HashMap<&'static str, Vec<TypeId>>,
    enumerators: HashMap<&'static str, u64>,
}

const STRUCTS: [&str; 11] = [
    "jump_entry",
    "module",
    "trace_entry",
    "trace_event_call",
    "trace_event_class",
    "trace_event_fields",
    "tracepoint",
    "trace_eval_map",
    "syscall_metadata",
    "syscall_trace_enter",
    "bpf_raw_event_map",
];
const ENUMERATORS: [&str; 2] = ["TRACE_EVENT_FL_TRACEPOINT", "TRACE_EVENT_FL_IGNORE_ENABLE"];

impl<'a> KnownTypes<'a> {
    fn of(section: &'a Section) -> Self {
        let mut found = Self {
            section,
            structs: HashMap::new(),
            enumerators: HashMap::new(),
        };
        for id in 1..section.end_id() {
            let Some(ty) = section.type_by_id(id) else {
                continue;
            };
            match ty.kind {
                Kind::Struct => {
                    let name = ty.name();
                    let mut known = STRUCTS.into_iter();
                    if let Some(known) = known.find(|known| known.as_bytes() == name) {
                        found.structs.entry(known).or_default().push(id);
                    }
                }
                Kind::Enum | Kind::Enum64 => {
                    for (name, value) in ty.enumerators() {
                        let mut known = ENUMERATORS.into_iter();
                        if let Some(known) = known.find(|known| known.as_bytes() == name) {
                            found.enumerators.insert(known, value as u64);
                        }
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// Returns the first struct of this name.
    fn id(&self, name: &'static str) -> Option<TypeId> {
        self.structs.get(name)?.first().copied()
    }

    fn size(&self, name: &'static str) -> Result<u32, ImageError> {
        let ty = self.id(name).and_then(|id| self.section.type_by_id(id));
        let size = ty.map(|ty| ty.size()).filter(|size| *size > 0);
        size.ok_or_else(|| missing(&format!("struct {name}")))
    }

    /// Returns a member's place. All structs of this name that have the member must agree
    /// on it.
    fn member(&self, name: &'static str, member: &'static str) -> Result<MemberBits, ImageError> {
        let ids = self.structs.get(name).into_iter().flatten();
        let mut places = ids.filter_map(|id| self.place(*id, member.as_bytes(), 0, 4));
        let first = places.next();
        match first.filter(|first| places.all(|place| place == *first)) {
            Some(place) => Ok(place),
            None => Err(missing(&format!("{name}.{member}"))),
        }
    }

    /// Returns the place of a member, which may be in a nested anonymous struct or union.
    fn place(&self, id: TypeId, name: &[u8], outer: u32, depth: u32) -> Option<MemberBits> {
        let ty = self.section.type_by_id(id)?;
        let mut members = ty.members();
        if let Some(member) = members.find(|member| member.name() == name) {
            let size = match member.bitfield_size {
                0 => self.section.size_of(member.type_id)?.checked_mul(8)?,
                bits => bits,
            };
            return Some(MemberBits {
                offset: outer.checked_add(member.bit_offset)?,
                size,
            });
        }
        let depth = depth.checked_sub(1)?;
        let mut anonymous = ty.members().filter(|member| member.name().is_empty());
        anonymous.find_map(|member| {
            let (inner, _) = self.section.resolve(member.type_id)?;
            let outer = outer.checked_add(member.bit_offset)?;
            self.place(inner, name, outer, depth)
        })
    }

    fn enumerator(&self, name: &'static str) -> Result<u64, ImageError> {
        let value = self.enumerators.get(name).copied();
        value.ok_or_else(|| missing(name))
    }
}
