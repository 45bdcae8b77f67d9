//! Prototypes of tracepoints, in a form in which prototypes are equal if a compiler
//! accepts one for the other.

use std::collections::HashMap;

use super::error::BtfError;
use super::kind::Kind;
use super::section::{MAX_CHAIN, Section, TypeId};
use super::types::Type;

/// The types of a tracepoint's arguments, as far as a call distinguishes them: the same
/// for all events of a class. They can be compared between a module and vmlinux, but not
/// between two modules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Prototype(pub(super) u32);

/// The number of bytes of names and spelled prototypes that an object may still produce.
/// Names may overlap and types be used repeatedly, so that a small object could fill
/// memory.
pub(super) struct Room {
    left: usize,
    limit: usize,
}

impl Room {
    pub(super) fn of(section: &Section) -> Self {
        let limit = section.len() * 4 + (1 << 16);
        Self { left: limit, limit }
    }

    pub(super) fn take(&mut self, bytes: usize) -> Result<(), BtfError> {
        let limit = self.limit;
        self.left = self
            .left
            .checked_sub(bytes)
            .ok_or(BtfError::TooLongTracepoints { limit })?;
        Ok(())
    }
}

/// Prototypes by their spelling.
pub(super) type KnownPrototypes = HashMap<Box<[u8]>, Prototype>;

/// Spells prototypes so that compatible ones have the same spelling.
///
/// An event's prototype may differ from its class's: the compiler only checks that the
/// class's functions can be called with the event's arguments. One may have `uint64_t`
/// where the other has `xfs_fsblock_t`, or an enum where the other has `unsigned int`.
/// Everything a compiler accepts must be spelled alike here, or the true class would be
/// ruled out. Spelling more alike only leaves more candidates.
pub(super) struct Prototypes<'a> {
    pub(super) section: &'a Section,
    /// vmlinux's prototypes, for a module; they are not repeated in `found`.
    pub(super) base: Option<&'a KnownPrototypes>,
    pub(super) found: KnownPrototypes,
    /// The prototypes that were spelled so far, by type id.
    pub(super) by_id: HashMap<TypeId, Option<Prototype>>,
    /// The buffer in which the next prototype is spelled.
    pub(super) spelled: Vec<u8>,
    pub(super) room: Room,
}

/// The most parameters of a prototype that is read. A tracepoint has at most twelve
/// arguments (`MAX_BPF_FUNC_ARGS`).
pub(super) const MAX_PARAMETERS: usize = 64;

impl<'a> Prototypes<'a> {
    pub(super) fn prototype(&mut self, id: TypeId) -> Result<Option<Prototype>, BtfError> {
        if let Some(known) = self.by_id.get(&id) {
            return Ok(*known);
        }
        self.spelled.clear();
        let is_spelled = self.spell(id);
        self.room.take(self.spelled.len())?;
        let prototype = is_spelled.map(|()| {
            let in_base = self.base.and_then(|base| base.get(&*self.spelled));
            let next = self.base.map_or(0, HashMap::len) + self.found.len();
            match in_base {
                Some(known) => *known,
                None => {
                    let spelled = self.spelled.as_slice().into();
                    *self.found.entry(spelled).or_insert(Prototype(next as u32))
                }
            }
        });
        self.by_id.insert(id, prototype);
        Ok(prototype)
    }

    fn spell(&mut self, id: TypeId) -> Option<()> {
        let ty = self.section.type_by_id(id)?;
        let parameters = ty.parameters();
        if ty.kind != Kind::FuncProto || parameters.len() > MAX_PARAMETERS {
            return None;
        }
        for parameter in parameters {
            // A parameter's own qualifiers do not concern its caller.
            let id = parameter.type_id;
            let id = self.section.resolve(id).map_or(id, |(id, _)| id);
            self.spell_type(id)?;
        }
        Some(())
    }

    /// Spells a type in a prefix-free code, so that concatenations are unambiguous.
    fn spell_type(&mut self, id: TypeId) -> Option<()> {
        let mut id = id;
        for _ in 0..MAX_CHAIN {
            let ty = self.section.type_by_id(id);
            let target = ty.and_then(|ty| ty.target());
            id = match (ty.map(|ty| ty.kind), target, ty) {
                // A type of an unknown kind may be an alias of anything.
                (Some(Kind::Unknown), ..) => return None,
                (Some(Kind::Typedef | Kind::TypeTag), Some(target), _) => target,
                (Some(Kind::Ptr), Some(target), _) => {
                    self.spelled.push(b'*');
                    target
                }
                (Some(Kind::Const | Kind::Volatile | Kind::Restrict), Some(target), _) => {
                    self.spelled.push(b'c');
                    target
                }
                (Some(Kind::Array), _, Some(ty)) => {
                    let (element, count) = ty.array()?;
                    self.spell_number(b'[', count);
                    element
                }
                (_, _, ty) => {
                    self.spell_leaf(id, ty);
                    return Some(());
                }
            };
        }
        None
    }

    /// Spells a type that does not consist of others, as far as a caller is concerned.
    fn spell_leaf(&mut self, id: TypeId, ty: Option<Type<'_>>) {
        let Some(ty) = ty else {
            return self.spell_number(b't', id);
        };
        match (ty.kind, ty.name()) {
            // A struct is spelled alike whether it is defined or only declared.
            (Kind::Struct | Kind::Union | Kind::Fwd, name) if !name.is_empty() => {
                self.spelled.push(b's');
                self.spelled.extend(name);
                self.spelled.push(0);
            }
            // To a caller an enum is an integer, whatever its name.
            (Kind::Enum | Kind::Enum64, _) => self.spell_number(b'i', ty.size()),
            (Kind::Int, name) if !matches!(name, b"_Bool" | b"bool") => {
                self.spell_number(b'i', ty.size());
            }
            (Kind::FuncProto, _) => self.spelled.push(b'f'),
            // Any other type equals only itself.
            _ => self.spell_number(b't', id),
        }
    }

    fn spell_number(&mut self, what: u8, number: u32) {
        self.spelled.push(what);
        self.spelled.extend(number.to_ne_bytes());
    }
}
