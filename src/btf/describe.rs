//! Types as values that can be printed and laid out, made from `btf-rs`.

use std::cell::Cell;
use std::sync::Arc;

use btf_rs::{Backend, Btf, BtfType, Type};

use super::Argument;
use super::index::MAX_PARAMETERS;
use super::section::{BtfError, MAX_CHAIN, Section, TypeId};
use crate::ctype::{CType, RecordKeyword};
use crate::layout::{Layout, Slot};

/// An object as `btf-rs` reads it.
pub(super) struct Described {
    btf: Btf,
    section: Arc<Section>,
}

impl Described {
    /// Opens vmlinux.
    pub(super) fn open(section: &Arc<Section>) -> Result<Self, BtfError> {
        Ok(Self {
            btf: open_base(section.bytes())?,
            section: Arc::clone(section),
        })
    }

    /// Opens a module's object.
    pub(super) fn open_split(section: &Arc<Section>, base: &Self) -> Result<Self, BtfError> {
        Ok(Self {
            btf: Btf::from_split_bytes(section.bytes(), &base.btf).map_err(error)?,
            section: Arc::clone(section),
        })
    }

    /// The members of a struct or union, each with its C type.
    pub(super) fn layout(&self, id: TypeId) -> Result<Layout, BtfError> {
        let budget = Budget {
            depth: MAX_CHAIN,
            steps: &Cell::new(MAX_STEPS),
        };
        self.record(id, &budget)
    }

    /// A type as a value.
    pub(super) fn c_type(&self, id: TypeId) -> Result<CType, BtfError> {
        let budget = Budget {
            depth: MAX_CHAIN,
            steps: &Cell::new(MAX_STEPS),
        };
        self.build(id, Held::ByValue, &budget)
    }

    /// The arguments of a tracepoint: those of the prototype behind its
    /// `btf_trace_<event>`, without the `void *__data` before them. Their names
    /// are those of the functions `__probestub_<event>` (Linux 6.5 and later) or
    /// `__traceiter_<event>`, where BTF has one.
    pub(super) fn arguments(
        &self,
        event: &str,
        typedef: TypeId,
    ) -> Result<Vec<Argument>, BtfError> {
        let pointer = self.target(&self.type_by_id(typedef)?)?;
        let Type::FuncProto(prototype) = self.target(&pointer)? else {
            return Err(BtfError::Describe(format!(
                "btf_trace_{event} is no function's type"
            )));
        };
        if prototype.parameters.len() > MAX_PARAMETERS {
            return Err(BtfError::Describe(format!(
                "btf_trace_{event} has more arguments than a tracepoint may"
            )));
        }
        let names = ["__probestub_", "__traceiter_"].iter().find_map(|prefix| {
            self.parameter_names(&format!("{prefix}{event}"), prototype.parameters.len())
        });
        let mut names = names.unwrap_or_default().into_iter();
        let parameters = prototype.parameters.iter().skip(1);
        parameters
            .map(|parameter| {
                let ty = self.c_type(parameter.get_type_id().unwrap_or(0))?;
                Ok((names.next(), ty))
            })
            .collect()
    }

    /// The names of a function's parameters but the first, if it has so many.
    fn parameter_names(&self, function: &str, count: usize) -> Option<Vec<String>> {
        let functions = self.btf.resolve_types_by_name(function).ok()?;
        functions.iter().find_map(|ty| {
            let Type::Func(_) = ty else {
                return None;
            };
            match self.target(ty).ok()? {
                Type::FuncProto(prototype) if prototype.parameters.len() == count => {
                    let names = prototype.parameters.iter().skip(1);
                    names.map(|parameter| self.named(parameter)).collect()
                }
                _ => None,
            }
        })
    }

    fn target(&self, ty: &Type) -> Result<Type, BtfError> {
        match ty.as_btf_type().and_then(BtfType::get_type_id) {
            Some(id) => self.type_by_id(id),
            None => Err(BtfError::Describe(format!("a {} is of no type", ty.name()))),
        }
    }

    fn record(&self, id: TypeId, budget: &Budget<'_>) -> Result<Layout, BtfError> {
        let ty = self.type_by_id(id)?;
        let (Type::Struct(record) | Type::Union(record)) = &ty else {
            return Err(BtfError::Describe(format!("type {id} is no struct")));
        };
        let keyword = match ty {
            Type::Union(_) => RecordKeyword::Union,
            _ => RecordKeyword::Struct,
        };
        let slots = record.members.iter().map(|member| {
            let c_type = self.build(member.get_type_id().unwrap_or(0), Held::ByValue, budget)?;
            let width = member.bitfield_size().filter(|width| *width > 0);
            Ok(Slot::new(
                self.name(member).to_owned(),
                c_type,
                u64::from(member.bit_offset()),
                width,
            ))
        });
        let slots = slots.collect::<Result<_, BtfError>>()?;
        let size = u32::try_from(record.size()).unwrap_or(u32::MAX);
        Ok(Layout::new(keyword, self.named(record), size, slots))
    }

    /// Follows a type as far as laying out a value of it, or of a pointer to it,
    /// needs.
    fn build(&self, id: TypeId, held: Held, budget: &Budget<'_>) -> Result<CType, BtfError> {
        let budget = &budget
            .step()
            .ok_or_else(|| BtfError::Describe(format!("the types around type {id} have no end")))?;
        let ty = self.type_by_id(id)?;
        let target = |ty: &dyn BtfType| ty.get_type_id().unwrap_or(0);
        let boxed = |id, held| Ok::<_, BtfError>(Box::new(self.build(id, held, budget)?));
        let qualified = |qualifier, ty: &dyn BtfType| {
            Ok::<_, BtfError>(CType::Qualified {
                qualifier,
                target: boxed(target(ty), held)?,
            })
        };
        let size = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
        Ok(match &ty {
            Type::Void => CType::Void,
            Type::Int(int) => CType::Int {
                name: self.name(int).to_owned(),
                size: size(int.size()),
                signed: int.is_signed(),
            },
            Type::Float(float) => CType::Float {
                name: self.name(float).to_owned(),
                size: size(float.size()),
            },
            Type::Typedef(typedef) => CType::Typedef {
                name: self.name(typedef).to_owned(),
                target: boxed(target(typedef), held)?,
            },
            Type::Struct(record) | Type::Union(record) => {
                let name = self.named(record);
                // What a pointer leads to may be left undefined, if it has a name
                // to be declared by.
                let body = match (held, &name) {
                    (Held::ByPointer, Some(_)) => None,
                    _ => Some(Box::new(self.record(id, budget)?)),
                };
                let keyword = match ty {
                    Type::Union(_) => RecordKeyword::Union,
                    _ => RecordKeyword::Struct,
                };
                CType::Record {
                    keyword,
                    name,
                    body,
                }
            }
            Type::Fwd(forward) => CType::Record {
                keyword: match forward.is_union() {
                    true => RecordKeyword::Union,
                    false => RecordKeyword::Struct,
                },
                name: self.named(forward),
                body: None,
            },
            Type::Enum(ty) => {
                let value = |member: &btf_rs::EnumMember| match ty.is_signed() {
                    true => i128::from(member.val() as i32),
                    false => i128::from(member.val()),
                };
                let values = ty
                    .members
                    .iter()
                    .map(|member| (self.name(member), value(member)));
                self.enumeration(ty, size(ty.size()), ty.is_signed(), values)
            }
            Type::Enum64(ty) => {
                let value = |member: &btf_rs::Enum64Member| match ty.is_signed() {
                    true => i128::from(member.val() as i64),
                    false => i128::from(member.val()),
                };
                let values = ty
                    .members
                    .iter()
                    .map(|member| (self.name(member), value(member)));
                self.enumeration(ty, size(ty.size()), ty.is_signed(), values)
            }
            Type::Ptr(pointer) => CType::Pointer {
                target: boxed(target(pointer), Held::ByPointer)?,
                size: self.section.pointer_size(),
            },
            Type::Array(array) => CType::Array {
                element: boxed(target(array), held)?,
                count: size(array.len()),
            },
            Type::Const(ty) => qualified("const", ty)?,
            Type::Volatile(ty) => qualified("volatile", ty)?,
            Type::Restrict(ty) => qualified("restrict", ty)?,
            Type::TypeTag(tag) => self.build(target(tag), held, budget)?,
            Type::FuncProto(prototype) => {
                let variadic = |parameter: &&btf_rs::Parameter| !parameter.is_variadic();
                let parameters = prototype.parameters.iter().filter(variadic);
                CType::Function {
                    result: boxed(prototype.return_type_id(), Held::ByPointer)?,
                    parameters: parameters
                        .map(|parameter| self.build(target(parameter), Held::ByPointer, budget))
                        .collect::<Result<_, _>>()?,
                    variadic: prototype
                        .parameters
                        .iter()
                        .any(btf_rs::Parameter::is_variadic),
                }
            }
            other => {
                return Err(BtfError::Describe(format!(
                    "type {id} is a {}",
                    other.name()
                )));
            }
        })
    }

    fn enumeration<'a>(
        &self,
        ty: &dyn BtfType,
        size: u32,
        signed: bool,
        values: impl Iterator<Item = (&'a str, i128)>,
    ) -> CType {
        CType::Enum {
            name: self.named(ty),
            size,
            signed,
            values: values
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        }
    }

    fn named(&self, ty: &dyn BtfType) -> Option<String> {
        Some(self.name(ty))
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
    }

    fn type_by_id(&self, id: TypeId) -> Result<Type, BtfError> {
        self.btf.resolve_type_by_id(id).map_err(error)
    }

    /// Names are read from the checked bytes: no copy, and right for the first
    /// string of a split object too, which `btf-rs` looks for in a mapped base.
    fn name(&self, ty: &dyn BtfType) -> &str {
        let name = ty
            .get_name_offset()
            .and_then(|offset| self.section.name(offset));
        // Only members can have such names by now; C has none for them.
        name.and_then(|name| std::str::from_utf8(name).ok())
            .filter(|name| !name.contains(char::is_control))
            .unwrap_or("")
    }
}

/// How a value is held, and so how much of its type must be known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    ByValue,
    ByPointer,
}

/// How much of a type is followed before it is called endless: hostile types
/// may be cycles, or branch at every step.
struct Budget<'a> {
    depth: usize,
    steps: &'a Cell<usize>,
}

/// The largest structs kernels' contexts hold by value take some hundreds.
const MAX_STEPS: usize = 1 << 16;

impl Budget<'_> {
    fn step(&self) -> Option<Self> {
        self.steps.set(self.steps.get().checked_sub(1)?);
        Some(Self {
            depth: self.depth.checked_sub(1)?,
            steps: self.steps,
        })
    }
}

fn error(error: btf_rs::Error) -> BtfError {
    BtfError::Describe(error.to_string())
}

/// Gives `btf-rs` a copy of the checked bytes to map: its `Mmap` backend opens
/// in 1 to 2 ms where `Cache` takes 100 and 40 MB, but wants a file, and the
/// file the bytes came from may have changed, or be one that cannot be mapped
/// (`/sys/kernel/btf/vmlinux` before Linux 6.16).
#[cfg(target_os = "linux")]
fn open_base(bytes: &[u8]) -> Result<Btf, BtfError> {
    match copy_to_memory_file(bytes) {
        Ok(file) => {
            use std::os::fd::AsRawFd;
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            Btf::from_file_with_backend(path, Backend::Mmap).map_err(error)
        }
        // Without memfd or /proc: slower, the same answers.
        Err(_) => Btf::from_bytes(bytes).map_err(error),
    }
}

#[cfg(target_os = "linux")]
fn copy_to_memory_file(bytes: &[u8]) -> std::io::Result<std::fs::File> {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
    use std::io::Write;

    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = std::fs::File::from(memfd_create("btf", flags)?);
    file.write_all(bytes)?;
    // A mapping whose file shrinks kills the process at the next read.
    fcntl_add_seals(
        &file,
        SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
    )?;
    std::fs::metadata(format!(
        "/proc/self/fd/{}",
        std::os::fd::AsRawFd::as_raw_fd(&file)
    ))?;
    Ok(file)
}

#[cfg(not(target_os = "linux"))]
fn open_base(bytes: &[u8]) -> Result<Btf, BtfError> {
    Btf::from_bytes(bytes).map_err(error)
}
