//! Types as people read them, in C, made from `btf-rs`.

use std::cell::Cell;
use std::sync::Arc;

use btf_rs::{Backend, Btf, BtfType, Type};

use super::section::{BtfError, MAX_CHAIN, Section, TypeId};
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

    /// The members of a struct, each with its C type.
    pub(super) fn layout(&self, id: TypeId) -> Result<Layout, BtfError> {
        let (Type::Struct(ty) | Type::Union(ty)) = self.type_by_id(id)? else {
            return Err(BtfError::Describe(format!("type {id} is no struct")));
        };
        let slots = ty.members.iter().map(|member| {
            let type_id = member.get_type_id().unwrap_or(0);
            let bits = member.bit_offset();
            let size = match member.bitfield_size() {
                None | Some(0) => self.section.size_of(type_id).unwrap_or(0),
                Some(width) => (bits % 8 + width).div_ceil(8),
            };
            let name = self.name(member).to_owned();
            Ok(Slot::new(name, self.c_type(type_id)?, bits / 8, size))
        });
        let slots = slots.collect::<Result<_, BtfError>>()?;
        Ok(Layout::new(
            u32::try_from(ty.size()).unwrap_or(u32::MAX),
            slots,
        ))
    }

    /// A type as an abstract declarator: `const char *`, `u8[16]`,
    /// `void (*)(struct page *)`.
    pub(super) fn c_type(&self, id: TypeId) -> Result<String, BtfError> {
        self.declare(
            id,
            String::new(),
            &Budget {
                depth: MAX_CHAIN,
                steps: &Cell::new(MAX_STEPS),
            },
        )
    }

    /// The declaration of `declarator` (a name, or what a pointer or an array
    /// has already put around one) as being of type `id`.
    fn declare(
        &self,
        id: TypeId,
        declarator: String,
        budget: &Budget<'_>,
    ) -> Result<String, BtfError> {
        let budget = &budget
            .step()
            .ok_or_else(|| BtfError::Describe(format!("the types around type {id} have no end")))?;
        let after = |word: &str| match declarator.as_str() {
            "" => word.to_owned(),
            // `char[16]` and `char *`, as people write them.
            text if text.starts_with('[') => format!("{word}{text}"),
            text => format!("{word} {text}"),
        };
        let ty = self.type_by_id(id)?;
        let target = |ty: &dyn BtfType| ty.get_type_id().unwrap_or(0);
        let named = |keyword: &str, ty: &dyn BtfType| match self.name(ty) {
            "" => after(&format!("{keyword} {{…}}")),
            name => after(&format!("{keyword} {name}")),
        };
        Ok(match &ty {
            Type::Void => after("void"),
            Type::Int(int) => after(self.name(int)),
            Type::Float(float) => after(self.name(float)),
            Type::Typedef(typedef) => after(self.name(typedef)),
            Type::Struct(ty) => named("struct", ty),
            Type::Union(ty) => named("union", ty),
            Type::Enum(ty) => named("enum", ty),
            Type::Enum64(ty) => named("enum", ty),
            Type::Fwd(fwd) if fwd.is_union() => named("union", fwd),
            Type::Fwd(fwd) => named("struct", fwd),
            Type::Ptr(pointer) => {
                let inner = match self.type_by_id(target(pointer))? {
                    Type::Array(_) | Type::FuncProto(_) => format!("(*{declarator})"),
                    _ => format!("*{declarator}"),
                };
                self.declare(target(pointer), inner, budget)?
            }
            Type::Array(array) => self.declare(
                target(array),
                format!("{declarator}[{}]", array.len()),
                budget,
            )?,
            Type::Const(ty) => self.qualify("const", target(ty), declarator, budget)?,
            Type::Volatile(ty) => self.qualify("volatile", target(ty), declarator, budget)?,
            Type::Restrict(ty) => self.qualify("restrict", target(ty), declarator, budget)?,
            Type::TypeTag(tag) => self.declare(target(tag), declarator, budget)?,
            Type::FuncProto(prototype) => {
                let parameters =
                    prototype
                        .parameters
                        .iter()
                        .map(|parameter| match parameter.is_variadic() {
                            true => Ok("...".to_owned()),
                            false => self.declare(target(parameter), String::new(), budget),
                        });
                let parameters = parameters.collect::<Result<Vec<_>, _>>()?;
                let list = match parameters.as_slice() {
                    [] => "void".to_owned(),
                    some => some.join(", "),
                };
                self.declare(
                    prototype.return_type_id(),
                    format!("{declarator}({list})"),
                    budget,
                )?
            }
            other => {
                return Err(BtfError::Describe(format!(
                    "type {id} is a {}",
                    other.name()
                )));
            }
        })
    }

    /// A qualifier stands before the type it is of, or after the star of a
    /// pointer it is of.
    fn qualify(
        &self,
        qualifier: &str,
        target: TypeId,
        declarator: String,
        budget: &Budget<'_>,
    ) -> Result<String, BtfError> {
        if let Type::Ptr(_) = self.type_by_id(target)? {
            let inner = match declarator.as_str() {
                "" => qualifier.to_owned(),
                text => format!("{qualifier} {text}"),
            };
            return self.declare(target, inner, budget);
        }
        Ok(format!(
            "{qualifier} {}",
            self.declare(target, declarator, budget)?
        ))
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
        name.and_then(|name| std::str::from_utf8(name).ok())
            .unwrap_or("")
    }
}

/// How much of a type is followed before it is called endless: hostile types
/// may be cycles, or branch at every step.
struct Budget<'a> {
    depth: usize,
    steps: &'a Cell<usize>,
}

/// A prototype with every argument a prototype of its own has tens.
const MAX_STEPS: usize = 4096;

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
