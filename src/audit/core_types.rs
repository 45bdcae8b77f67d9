//! The types of a kernel, looked up by name as by CO-RE.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, OnceLock};

use crate::btf::{Kind, Object, Section, TypeId};
use crate::error::Error;
use crate::kernel::Kernel;

/// A type of a kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct KernelType<'a> {
    pub(super) object: &'a Arc<Object>,
    pub(super) id: TypeId,
}

/// A kernel with an index of its types by name, made once for many objects.
///
/// The types are indexed when an object first needs them; those of modules only if
/// vmlinux has none of a name, as in libbpf.
#[derive(Debug)]
pub struct AuditedKernel {
    kernel: Kernel,
    /// vmlinux's types; `None` inside on a kernel without BTF.
    vmlinux: OnceLock<Option<TypesByName>>,
    modules: OnceLock<Vec<TypesByName>>,
}

#[derive(Debug)]
struct TypesByName {
    object: Arc<Object>,
    /// Hashes of names without flavours, each with a type, sorted.
    types: Vec<(u32, TypeId)>,
}

impl AuditedKernel {
    /// Creates an index that reads nothing yet.
    pub fn new(kernel: &Kernel) -> Self {
        Self {
            kernel: kernel.clone(),
            vmlinux: OnceLock::new(),
            modules: OnceLock::new(),
        }
    }

    /// Returns the kernel.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    fn of_vmlinux(&self) -> Result<Option<&TypesByName>, Error> {
        if let Some(known) = self.vmlinux.get() {
            return Ok(known.as_ref());
        }
        let types = self.kernel.vmlinux()?.map(TypesByName::new);
        Ok(self.vmlinux.get_or_init(|| types).as_ref())
    }

    fn of_modules(&self) -> Result<&[TypesByName], Error> {
        if let Some(known) = self.modules.get() {
            return Ok(known);
        }
        let objects = self.kernel.objects()?.into_iter().skip(1);
        let types = objects.map(TypesByName::new).collect();
        Ok(self.modules.get_or_init(|| types))
    }

    /// Whether vmlinux has a type with this name and kind.
    pub(super) fn vmlinux_has(&self, name: &[u8], kind: Kind) -> Result<bool, Error> {
        let mut found = Vec::new();
        if let Some(vmlinux) = self.of_vmlinux()? {
            vmlinux.add(name, kind, &mut found);
        }
        Ok(!found.is_empty())
    }

    /// Returns the types with this name, apart from flavours, and kind: vmlinux's, or
    /// else the modules'.
    pub(super) fn candidates(&self, name: &[u8], kind: Kind) -> Result<Vec<KernelType<'_>>, Error> {
        let Some(vmlinux) = self.of_vmlinux()? else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        vmlinux.add(name, kind, &mut found);
        if found.is_empty() {
            for module in self.of_modules()? {
                module.add(name, kind, &mut found);
            }
        }
        Ok(found)
    }
}

impl TypesByName {
    fn new(object: Arc<Object>) -> Self {
        let section = object.section();
        let first = object.base().map_or(1, |base| base.section().end_id());
        let mut types: Vec<(u32, TypeId)> = (first..section.end_id())
            .filter_map(|id| {
                let name = section.type_by_id(id)?.name();
                (!name.is_empty()).then(|| (hash(essential(name)), id))
            })
            .collect();
        types.sort_unstable();
        Self { object, types }
    }

    fn add<'a>(&'a self, name: &[u8], kind: Kind, found: &mut Vec<KernelType<'a>>) {
        let hash = hash(name);
        let start = self.types.partition_point(|(known, _)| *known < hash);
        let same = self.types[start..].iter();
        for &(_, id) in same.take_while(|(known, _)| *known == hash) {
            let ty = self.object.section().type_by_id(id);
            let fits = ty.is_some_and(|ty| {
                essential(ty.name()) == name && are_kinds_compatible(ty.kind, kind)
            });
            if fits && found.len() < MAX_CANDIDATES {
                found.push(KernelType {
                    object: &self.object,
                    id,
                });
            }
        }
    }
}

/// The most types of one name. Kernels have some dozens, in all modules together.
const MAX_CANDIDATES: usize = 1024;

fn hash(name: &[u8]) -> u32 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish() as u32
}

/// Whether the kinds are the same to CO-RE: enums of 32 and 64 bits are.
pub(super) fn are_kinds_compatible(a: Kind, b: Kind) -> bool {
    let is_enum = |kind| matches!(kind, Kind::Enum | Kind::Enum64);
    a == b || is_enum(a) && is_enum(b)
}

/// Returns the name without its flavour, which is the part from the last `___` between
/// characters that are not underscores.
pub(super) fn essential(name: &[u8]) -> &[u8] {
    let separator = name
        .windows(5)
        .rposition(|window| window[0] != b'_' && &window[1..4] == b"___" && window[4] != b'_');
    match separator {
        Some(at) => &name[..at + 1],
        None => name,
    }
}

/// Whether the type is a struct or a union.
pub(super) fn is_composite(kind: Kind) -> bool {
    matches!(kind, Kind::Struct | Kind::Union)
}

/// Whether the two types are compatible as CO-RE compares fields.
pub(super) fn are_fields_compatible(
    local: (&Section, TypeId),
    target: (&Section, TypeId),
) -> Option<bool> {
    let (mut local_id, mut target_id) = (local.1, target.1);
    for _ in 0..MAX_DEPTH {
        let (_, a) = local.0.resolve(local_id)?;
        let (_, b) = target.0.resolve(target_id)?;
        if is_composite(a.kind) && is_composite(b.kind) {
            return Some(true);
        }
        if !are_kinds_compatible(a.kind, b.kind) {
            return Some(false);
        }
        match (a.kind, a.array(), b.array()) {
            (Kind::Ptr | Kind::Float | Kind::Int, ..) => return Some(true),
            (Kind::Fwd | Kind::Enum | Kind::Enum64, ..) => {
                let (a, b) = (essential(a.name()), essential(b.name()));
                return Some(a.is_empty() || b.is_empty() || a == b);
            }
            (_, Some((a, _)), Some((b, _))) => (local_id, target_id) = (a, b),
            _ => return Some(false),
        }
    }
    None
}

/// Whether the two types are compatible as CO-RE compares whole types.
pub(super) fn are_types_compatible(
    local: (&Section, TypeId),
    target: (&Section, TypeId),
    left: &mut u32,
) -> Option<bool> {
    *left = left.checked_sub(1)?;
    match (local.0.is_void(local.1), target.0.is_void(target.1)) {
        (true, true) => return Some(true),
        (false, false) => {}
        _ => return Some(false),
    }
    let (_, a) = local.0.resolve(local.1)?;
    let (_, b) = target.0.resolve(target.1)?;
    if !are_kinds_compatible(a.kind, b.kind) {
        return Some(false);
    }
    let mut both = |a, b| are_types_compatible((local.0, a), (target.0, b), left);
    match a.kind {
        Kind::Struct | Kind::Union | Kind::Enum | Kind::Enum64 | Kind::Fwd | Kind::Int => {
            Some(true)
        }
        Kind::Ptr => both(a.target()?, b.target()?),
        Kind::Array => both(a.array()?.0, b.array()?.0),
        Kind::FuncProto => {
            let (mut of_a, mut of_b) = (a.parameters(), b.parameters());
            if of_a.len() != of_b.len() || of_a.len() > MAX_DEPTH {
                return Some(false);
            }
            while let (Some(a), Some(b)) = (of_a.next(), of_b.next()) {
                if !both(a.type_id, b.type_id)? {
                    return Some(false);
                }
            }
            both(a.target()?, b.target()?)
        }
        _ => Some(false),
    }
}

/// The greatest depth to which types are followed, as in libbpf.
const MAX_DEPTH: usize = 32;

/// The most types that are compared for one answer.
pub(super) const MAX_COMPARED: u32 = 1 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flavours_are_cut() {
        for (name, expected) in [
            ("task_struct", "task_struct"),
            ("task_struct___old", "task_struct"),
            ("a___b___c", "a___b"),
            ("a____b", "a____b"),
            ("___x", "___x"),
            ("x___", "x___"),
        ] {
            assert_eq!(essential(name.as_bytes()), expected.as_bytes(), "{name}");
        }
    }
}
