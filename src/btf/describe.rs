//! Types as values, to be printed and laid out.

use std::cell::Cell;

use super::Argument;
use super::error::BtfError;
use super::kind::Kind;
use super::prototype::MAX_PARAMETERS;
use super::section::{MAX_CHAIN, Section, TypeId};
use super::types::Type;
use crate::layout::ctype::{CType, RecordKeyword};
use crate::layout::{Layout, Slot};

/// Describes the types of an object.
#[derive(Clone, Copy)]
pub(super) struct Description<'a> {
    section: &'a Section,
}

impl<'a> Description<'a> {
    pub(super) fn of(section: &'a Section) -> Self {
        Self { section }
    }

    /// Returns the members of a struct or union, each with its C type.
    pub(super) fn layout(&self, id: TypeId) -> Result<Layout, BtfError> {
        self.record(id, &Budget::of(&Spent::default()))
    }

    /// Returns a type as a value.
    pub(super) fn c_type(&self, id: TypeId) -> Result<CType, BtfError> {
        self.build(id, Held::ByValue, &Budget::of(&Spent::default()))
    }

    /// Returns the arguments of a tracepoint: those of the prototype behind its
    /// `btf_trace_<event>`, without the leading `void *__data`. Their names are those of
    /// the first function in `named_by` that has the same number of parameters.
    pub(super) fn arguments(
        &self,
        event: &str,
        typedef: TypeId,
        mut named_by: impl Iterator<Item = TypeId>,
    ) -> Result<Vec<Argument>, BtfError> {
        let pointer = self.target(self.type_by_id(typedef)?)?;
        let prototype = self.target(pointer)?;
        if prototype.kind != Kind::FuncProto {
            return Err(BtfError::Describe(format!(
                "btf_trace_{event} is not the type of a function"
            )));
        }
        let count = prototype.parameters().len();
        if count > MAX_PARAMETERS {
            return Err(BtfError::Describe(format!(
                "btf_trace_{event} has more arguments than a tracepoint may"
            )));
        }
        let names = named_by.find_map(|id| self.parameter_names(id, count));
        let mut names = names.unwrap_or_default().into_iter();
        let parameters = prototype.parameters().skip(1);
        // All arguments are kept at once, so they share one budget.
        let spent = Spent::default();
        let budget = Budget::of(&spent);
        parameters
            .map(|parameter| {
                let c_type = self.build(parameter.type_id, Held::ByValue, &budget)?;
                Ok((names.next(), c_type))
            })
            .collect()
    }

    /// Returns the names of a function's parameters, without the first; `None` if there
    /// are not `count` parameters, or one has no name.
    fn parameter_names(&self, function: TypeId, count: usize) -> Option<Vec<String>> {
        let prototype = self.target(self.type_by_id(function).ok()?).ok()?;
        let parameters = prototype.parameters();
        if prototype.kind != Kind::FuncProto || parameters.len() != count {
            return None;
        }
        let names = parameters.skip(1);
        names.map(|parameter| named(parameter.name())).collect()
    }

    fn target(&self, ty: Type<'a>) -> Result<Type<'a>, BtfError> {
        match ty.target() {
            Some(id) => self.type_by_id(id),
            None => Err(BtfError::Describe(format!("a {:?} is of no type", ty.kind))),
        }
    }

    fn type_by_id(&self, id: TypeId) -> Result<Type<'a>, BtfError> {
        let ty = self.section.type_by_id(id);
        ty.ok_or_else(|| BtfError::Describe(format!("there is no type {id}")))
    }

    fn record(&self, id: TypeId, budget: &Budget<'_>) -> Result<Layout, BtfError> {
        let record = self.type_by_id(id)?;
        let keyword = match record.kind {
            Kind::Struct => RecordKeyword::Struct,
            Kind::Union => RecordKeyword::Union,
            _ => {
                return Err(BtfError::Describe(format!(
                    "type {id} is not a struct or union"
                )));
            }
        };
        let slots = record.members().map(|member| {
            let c_type = self.build(member.type_id, Held::ByValue, budget)?;
            let width = Some(member.bitfield_size).filter(|width| *width > 0);
            let name = text(member.name()).to_owned();
            Ok(Slot::new(name, c_type, u64::from(member.bit_offset), width))
        });
        let slots = slots.collect::<Result<_, BtfError>>()?;
        Ok(Layout::new(
            keyword,
            named(record.name()),
            record.size(),
            slots,
        ))
    }

    /// Follows a type as far as the layout of its values, or of pointers to it, needs.
    fn build(&self, id: TypeId, held: Held, budget: &Budget<'_>) -> Result<CType, BtfError> {
        let endless = || {
            BtfError::Describe(format!(
                "the types around type {id} have no end, or are too many"
            ))
        };
        let budget = &budget.deeper().ok_or_else(endless)?;
        if id == 0 {
            return Ok(CType::Void);
        }
        let ty = self.type_by_id(id)?;
        budget.spend_values(&ty).ok_or_else(endless)?;
        let name = || text(ty.name()).to_owned();
        let boxed = |id, held| Ok::<_, BtfError>(Box::new(self.build(id, held, budget)?));
        let target = ty.target().unwrap_or(0);
        let qualified = |qualifier| {
            Ok::<_, BtfError>(CType::Qualified {
                qualifier,
                target: boxed(target, held)?,
            })
        };
        Ok(match ty.kind {
            Kind::Int => CType::Int {
                name: name(),
                size: ty.size(),
                signed: ty.is_signed_int(),
            },
            Kind::Float => CType::Float {
                name: name(),
                size: ty.size(),
            },
            Kind::Typedef => CType::Typedef {
                name: name(),
                target: boxed(target, held)?,
            },
            Kind::Struct | Kind::Union => {
                let name = named(ty.name());
                // The target of a pointer may be left undefined if it has a name, by
                // which it can be declared.
                let body = match (held, &name) {
                    (Held::ByPointer, Some(_)) => None,
                    _ => Some(Box::new(self.record(id, budget)?)),
                };
                CType::Record {
                    keyword: match ty.kind {
                        Kind::Union => RecordKeyword::Union,
                        _ => RecordKeyword::Struct,
                    },
                    name,
                    body,
                }
            }
            Kind::Fwd => CType::Record {
                keyword: match ty.flag() {
                    true => RecordKeyword::Union,
                    false => RecordKeyword::Struct,
                },
                name: named(ty.name()),
                body: None,
            },
            Kind::Enum | Kind::Enum64 => CType::Enum {
                name: named(ty.name()),
                size: ty.size(),
                signed: ty.flag(),
                values: ty
                    .values()
                    .map(|(name, value)| (text(name).to_owned(), value))
                    .collect(),
            },
            Kind::Ptr => CType::Pointer {
                target: boxed(target, Held::ByPointer)?,
                size: self.section.pointer_size(),
            },
            Kind::Array => {
                let (element, count) = ty.array().unwrap_or((0, 0));
                CType::Array {
                    element: boxed(element, held)?,
                    count,
                }
            }
            Kind::Const => qualified("const")?,
            Kind::Volatile => qualified("volatile")?,
            Kind::Restrict => qualified("restrict")?,
            Kind::TypeTag => self.build(target, held, budget)?,
            Kind::FuncProto => CType::Function {
                result: boxed(target, Held::ByPointer)?,
                parameters: ty
                    .parameters()
                    .filter(|parameter| !parameter.is_variadic())
                    .map(|parameter| self.build(parameter.type_id, Held::ByPointer, budget))
                    .collect::<Result<_, _>>()?,
                variadic: ty.parameters().any(|parameter| parameter.is_variadic()),
            },
            Kind::Func | Kind::Var | Kind::Datasec | Kind::DeclTag | Kind::Unknown => {
                return Err(is_no_value(id, &ty));
            }
        })
    }
}

/// Returns the error for a type that has no values, as far as is known.
fn is_no_value(id: TypeId, ty: &Type<'_>) -> BtfError {
    BtfError::Describe(match ty.kind {
        Kind::Unknown => format!(
            "type {id} is of kind {}, which is not known",
            ty.kind_number()
        ),
        kind => format!("type {id} is a {kind:?}"),
    })
}

/// Returns a name as text; empty if it is not UTF-8 or has control characters. Names of
/// types were checked for control characters when the object was parsed; names of members,
/// parameters and enumerators were not.
fn text(name: &[u8]) -> &str {
    std::str::from_utf8(name)
        .ok()
        .filter(|name| !name.contains(char::is_control))
        .unwrap_or("")
}

fn named(name: &[u8]) -> Option<String> {
    Some(text(name))
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
}

/// How a value is held, which decides how much of its type must be known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    ByValue,
    ByPointer,
}

/// The limits within which a type is followed: hostile types may be cycles, or branch at
/// every step.
struct Budget<'a> {
    depth: usize,
    spent: &'a Spent,
}

/// The types and bytes that one description has spent so far.
#[derive(Default)]
struct Spent {
    types: Cell<usize>,
    value_bytes: Cell<usize>,
}

/// The most types in one description. The largest structs that contexts hold by value need
/// some hundreds. Each may have a name of a kilobyte.
const MAX_TYPES: usize = 1 << 14;

/// The most bytes of the enumerators of one description, names included.
const MAX_VALUE_BYTES: usize = 16 << 20;

impl<'a> Budget<'a> {
    fn of(spent: &'a Spent) -> Self {
        Self {
            depth: MAX_CHAIN,
            spent,
        }
    }

    fn deeper(&self) -> Option<Self> {
        spend(&self.spent.types, 1, MAX_TYPES)?;
        Some(Self {
            depth: self.depth.checked_sub(1)?,
            spent: self.spent,
        })
    }

    /// Spends the bytes that the enumerators of a type need; `None` if that exceeds the
    /// limit.
    fn spend_values(&self, ty: &Type<'_>) -> Option<()> {
        for (name, _) in ty.values() {
            let bytes = size_of::<(String, i128)>() + name.len();
            spend(&self.spent.value_bytes, bytes, MAX_VALUE_BYTES)?;
        }
        Some(())
    }
}

fn spend(spent: &Cell<usize>, more: usize, limit: usize) -> Option<()> {
    let sum = spent.get().saturating_add(more);
    spent.set(sum);
    (sum <= limit).then_some(())
}
