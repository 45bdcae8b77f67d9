//! A module's BTF that was made against a distilled base, `.BTF.base`.
//!
//! A module that is built apart from its kernel has, beside `.BTF`, the vmlinux types it
//! refers to: numbers, enums, structs and unions, each with its name and size but without
//! members. When the kernel loads the module, it looks each up in its own BTF and
//! rewrites the module's. This module does the same; the kernel's code is
//! `btf_relocate()` in `tools/lib/bpf/btf_relocate.c`.

use std::collections::{HashMap, HashSet};

use super::error::BtfError;
use super::kind::Kind;
use super::section::{MAX_CHAIN, Section, TypeId};
use super::types::Type;

/// The most types of one name in vmlinux: more than any kernel has.
const MAX_NAMESAKES: usize = 64;

/// Returns the object's bytes as a split object of `vmlinux`, where `split` refers to a
/// distilled base.
pub(super) fn relocated(
    split: &Section,
    distilled: &Section,
    vmlinux: &Section,
) -> Result<Vec<u8>, BtfError> {
    if vmlinux.is_big_endian() != split.is_big_endian() {
        return Err(BtfError::Base);
    }
    let mut relocation = Relocation {
        ids: map(split, distilled, vmlinux)?,
        old_first: distilled.end_id(),
        new_first: vmlinux.end_id(),
        names: Names::of(split, distilled, vmlinux),
    };
    let mut words = Vec::new();
    for id in split.own_ids() {
        let ty = type_of(split, id)?;
        let start = words.len();
        words.extend(ty.words());
        relocation.rewrite(id, &ty, &mut words[start..])?;
    }
    Ok(relocation.names.object(split.is_big_endian(), &words))
}

fn type_of(section: &Section, id: TypeId) -> Result<Type<'_>, BtfError> {
    let ty = section.type_by_id(id);
    ty.ok_or_else(|| BtfError::Describe(format!("there is no type {id}")))
}

/// Returns, for each type of the distilled base by id, the id of the type in vmlinux.
fn map(split: &Section, distilled: &Section, vmlinux: &Section) -> Result<Vec<TypeId>, BtfError> {
    let mut namesakes: HashMap<&[u8], Vec<TypeId>> = HashMap::new();
    for id in distilled.own_ids() {
        namesakes.entry(type_of(distilled, id)?.name()).or_default();
    }
    for id in vmlinux.own_ids() {
        let ty = type_of(vmlinux, id)?;
        if let Some(ids) = namesakes.get_mut(ty.name())
            && !ty.name().is_empty()
            && ids.len() <= MAX_NAMESAKES
        {
            ids.push(id);
        }
    }
    let embedded = embedded(split, distilled);
    let mut ids = vec![0];
    for id in distilled.own_ids() {
        let wanted = type_of(distilled, id)?;
        let candidates = namesakes.get(wanted.name()).map_or(&[][..], Vec::as_slice);
        let fits = |candidate: &&TypeId| {
            let found = vmlinux.type_by_id(**candidate);
            found.is_some_and(|found| is_same(&wanted, &found, embedded.contains(&id)))
        };
        let mut found: Vec<TypeId> = candidates.iter().filter(fits).copied().collect();
        if found.len() > 1 {
            found.retain(|found| is_defined_alike(&wanted, vmlinux.type_by_id(*found)));
        }
        match found[..] {
            [found] if candidates.len() <= MAX_NAMESAKES => ids.push(found),
            _ => {
                return Err(BtfError::Relocation {
                    id,
                    name: String::from_utf8_lossy(wanted.name())
                        .escape_debug()
                        .to_string(),
                    found: found.len(),
                });
            }
        }
    }
    Ok(ids)
}

/// Whether a type of vmlinux is the one that a type of the distilled base stands for. The
/// size of a struct matters if the module embeds it in a struct of its own.
fn is_same(wanted: &Type<'_>, found: &Type<'_>, is_embedded: bool) -> bool {
    let is_sized = wanted.size() == found.size();
    match (wanted.kind, found.kind) {
        (Kind::Int, Kind::Int) => is_sized && wanted.words()[3..] == found.words()[3..],
        (Kind::Float, Kind::Float) | (Kind::Enum | Kind::Enum64, Kind::Enum | Kind::Enum64) => {
            is_sized
        }
        (Kind::Struct, Kind::Struct) | (Kind::Union, Kind::Union) => is_sized || !is_embedded,
        (Kind::Fwd, Kind::Fwd) => wanted.flag() == found.flag(),
        (Kind::Fwd, Kind::Struct) => !wanted.flag(),
        (Kind::Fwd, Kind::Union) => wanted.flag(),
        _ => false,
    }
}

/// Whether a candidate is defined like the wanted type, rather than being a mere
/// declaration or having another size.
fn is_defined_alike(wanted: &Type<'_>, found: Option<Type<'_>>) -> bool {
    found.is_some_and(|found| match wanted.kind {
        Kind::Fwd => found.kind != Kind::Fwd,
        _ => wanted.size() == found.size(),
    })
}

/// Returns the types of the distilled base that structs and unions of the module embed.
fn embedded(split: &Section, distilled: &Section) -> HashSet<TypeId> {
    let mut embedded = HashSet::new();
    let own = split.own_ids().filter_map(|id| split.type_by_id(id));
    for member in own.flat_map(|ty| ty.members()) {
        let mut id = member.type_id;
        for _ in 0..MAX_CHAIN {
            if id < distilled.end_id() {
                embedded.insert(id);
                break;
            }
            let Some(ty) = split.type_by_id(id) else {
                break;
            };
            let element = ty.array().map(|(element, _)| element);
            match element.or(ty.target().filter(|_| ty.is_alias())) {
                Some(next) => id = next,
                None => break,
            }
        }
    }
    embedded
}

/// The new ids and names of a module's types.
struct Relocation<'a> {
    /// The ids in vmlinux of the distilled base's types.
    ids: Vec<TypeId>,
    /// The id of the module's first own type, before and after.
    old_first: TypeId,
    new_first: TypeId,
    names: Names<'a>,
}

impl Relocation<'_> {
    /// Rewrites the words of one type.
    fn rewrite(&mut self, id: TypeId, ty: &Type<'_>, words: &mut [u32]) -> Result<(), BtfError> {
        words[0] = self.names.relocated(words[0])?;
        if ty.target().is_some() {
            words[2] = self.type_id(words[2])?;
        }
        let tail = &mut words[3..];
        match ty.kind {
            Kind::Array => {
                for word in &mut tail[..2] {
                    *word = self.type_id(*word)?;
                }
            }
            Kind::Struct | Kind::Union => {
                for member in tail.chunks_exact_mut(3) {
                    member[0] = self.names.relocated(member[0])?;
                    member[1] = self.type_id(member[1])?;
                }
            }
            Kind::FuncProto => {
                for parameter in tail.chunks_exact_mut(2) {
                    parameter[0] = self.names.relocated(parameter[0])?;
                    parameter[1] = self.type_id(parameter[1])?;
                }
            }
            Kind::Enum => {
                for value in tail.chunks_exact_mut(2) {
                    value[0] = self.names.relocated(value[0])?;
                }
            }
            Kind::Enum64 => {
                for value in tail.chunks_exact_mut(3) {
                    value[0] = self.names.relocated(value[0])?;
                }
            }
            Kind::Datasec => {
                for variable in tail.chunks_exact_mut(3) {
                    variable[0] = self.type_id(variable[0])?;
                }
            }
            // It is not known which of the type's words are ids or names.
            Kind::Unknown => {
                let kind = ty.kind_number() as u32;
                return Err(BtfError::Kind { id, kind });
            }
            _ => {}
        }
        Ok(())
    }

    fn type_id(&self, id: TypeId) -> Result<TypeId, BtfError> {
        let moved = match id.checked_sub(self.old_first) {
            None => self.ids.get(id as usize).copied(),
            Some(own) => own.checked_add(self.new_first),
        };
        moved.ok_or_else(|| BtfError::Describe(format!("there is no type {id}")))
    }
}

/// The names of a module's object: its own, and those that it uses from the distilled
/// base.
struct Names<'a> {
    distilled: &'a Section,
    /// The offset of the module's first own string, before and after.
    old_start: u32,
    new_start: u32,
    strings: Vec<u8>,
    /// The new offsets of the distilled base's names.
    moved: HashMap<u32, u32>,
}

impl<'a> Names<'a> {
    fn of(split: &Section, distilled: &'a Section, vmlinux: &Section) -> Self {
        let (old_start, strings) = split.own_strings();
        Self {
            distilled,
            old_start,
            new_start: vmlinux.end_name(),
            strings: strings.to_vec(),
            // Every object's first string is empty.
            moved: HashMap::from([(0, 0)]),
        }
    }

    /// Returns the new offset of the name at an old one.
    fn relocated(&mut self, offset: u32) -> Result<u32, BtfError> {
        let too_long = || BtfError::Describe("its names are too long".to_owned());
        if let Some(own) = offset.checked_sub(self.old_start) {
            return own.checked_add(self.new_start).ok_or_else(too_long);
        }
        if let Some(moved) = self.moved.get(&offset) {
            return Ok(*moved);
        }
        let name = self.distilled.name(offset).unwrap_or_default();
        let at = u32::try_from(self.strings.len()).ok();
        let at = at.and_then(|at| at.checked_add(self.new_start));
        let at = at.filter(|_| self.strings.len() <= MAX_STRINGS);
        let at = at.ok_or_else(too_long)?;
        self.strings.extend(name);
        self.strings.push(0);
        self.moved.insert(offset, at);
        Ok(at)
    }

    /// Returns an object with these types and strings.
    fn object(&self, big_endian: bool, words: &[u32]) -> Vec<u8> {
        let (types, strings) = (4 * words.len() as u32, self.strings.len() as u32);
        let bytes = |word: u32| match big_endian {
            true => word.to_be_bytes(),
            false => word.to_le_bytes(),
        };
        let magic: [u8; 4] = match big_endian {
            true => [0xeb, 0x9f, 1, 0],
            false => [0x9f, 0xeb, 1, 0],
        };
        let mut object = magic.to_vec();
        object.extend([24, 0, types, types, strings].into_iter().flat_map(bytes));
        object.extend(words.iter().copied().flat_map(bytes));
        object.extend(&self.strings);
        object
    }
}

/// The largest size of a module's strings, in bytes: names of a distilled base may
/// overlap.
const MAX_STRINGS: usize = 64 << 20;
