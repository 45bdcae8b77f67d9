//! Paths through the arguments of a tracepoint: `prev->comm`, `rq->q->id`, `skb->cb[3]`.
//!
//! A path has C's syntax, without casts: `->` follows a pointer, `.` stays inside a
//! struct, `[n]` is an element of an array or of the memory that a pointer points to. `->`
//! and `.` are taken for each other, since each fits one kind of type only.

use super::kind::Kind;
use super::path_error::PathError;
use super::section::{MAX_CHAIN, Section, TypeId};
use super::{BtfError, Object};

/// The greatest length of a path in bytes, and in steps: far more than a useful path has.
const MAX_PATH: usize = 256;
const MAX_STEPS: usize = 24;

/// A value that a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ArgumentPath {
    /// The index of the argument that the path begins with, from 0.
    pub(crate) argument: u32,
    /// Where the value is in memory; `None` where it is the argument itself.
    pub(crate) place: Option<Reached>,
    pub(crate) leaf: Leaf,
    /// The value's type in C.
    pub(crate) c_type: String,
}

/// The memory that an argument leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reached {
    /// The argument is the first address. Each hop is the offset in bytes, from the
    /// address so far, at which the next address is stored.
    pub(crate) hops: Vec<u32>,
    /// The value's offset in bytes from the last address.
    pub(crate) offset: u32,
    /// The size of an address in bytes.
    pub(crate) pointer_size: u32,
}

/// The kind of value at the end of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Leaf {
    Integer {
        /// In bytes: 1, 2, 4 or 8.
        size: u32,
        signed: bool,
        /// The first bit of a bitfield, counted from the value's first byte as BTF
        /// counts, and its width.
        bits: Option<(u32, u32)>,
        /// The names and values of an enum; empty for other types.
        names: Vec<(String, i128)>,
    },
    /// An address of `size` bytes.
    Pointer { size: u32 },
    /// The address of a string.
    TextPointer { size: u32, of_user: bool },
    /// A string of at most `size` bytes; 0 if its end is not known.
    Text { size: u32 },
    /// An array of integers of `element` bytes each, `size` bytes together.
    Integers {
        element: u32,
        signed: bool,
        size: u32,
    },
    /// Anything else, `size` bytes long.
    Bytes { size: u32 },
}

/// One step of a path.
#[derive(Debug, PartialEq, Eq)]
enum PathStep<'p> {
    Member(&'p str),
    Element(u32),
}

/// Returns the steps of a path, each with the offset in bytes at which it ends.
fn steps(path: &str) -> Result<Vec<(PathStep<'_>, usize)>, PathError> {
    if path.len() > MAX_PATH {
        return Err(PathError::TooLong {
            limit: MAX_PATH,
            unit: "bytes",
        });
    }
    let bad = |at: usize| PathError::Syntax {
        path: path.to_owned(),
        column: path[..at].chars().count() + 1,
    };
    let bytes = path.as_bytes();
    let mut steps = Vec::new();
    let mut at = 0;
    while at < bytes.len() || steps.is_empty() {
        let rest = &path[at..];
        if let Some(inside) = rest.strip_prefix('[').filter(|_| !steps.is_empty()) {
            let end = inside.find(']').ok_or_else(|| bad(at))?;
            let index = inside[..end].parse().map_err(|_| bad(at + 1))?;
            at += end + 2;
            steps.push((PathStep::Element(index), at));
        } else {
            let sign = match steps.is_empty() {
                true => "",
                false if rest.starts_with("->") => "->",
                false if rest.starts_with('.') => ".",
                false => return Err(bad(at)),
            };
            at += sign.len();
            let name = &path[at..];
            let length = name
                .bytes()
                .take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
                .count();
            if length == 0 || name.as_bytes()[0].is_ascii_digit() {
                return Err(bad(at));
            }
            at += length;
            steps.push((PathStep::Member(&name[..length]), at));
        }
        if steps.len() > MAX_STEPS {
            return Err(PathError::TooLong {
                limit: MAX_STEPS,
                unit: "steps",
            });
        }
    }
    Ok(steps)
}

/// The place that a path has led to so far.
struct Walk<'o> {
    object: &'o Object,
    type_id: TypeId,
    place: Option<Reached>,
    /// The first bit of a bitfield, counted from the place's offset, and its width.
    bits: Option<(u32, u32)>,
}

impl Object {
    /// Follows a path from an argument of a tracepoint that this object defines.
    pub(crate) fn argument_path(&self, event: &str, path: &str) -> Result<ArgumentPath, PathError> {
        let unsound = |source| PathError::Types {
            path: path.to_owned(),
            source,
        };
        let steps = steps(path)?;
        let names = self.argument_names(event).map_err(unsound)?;
        let ids = self.argument_types(event);
        let mut steps = steps.into_iter();
        let Some((PathStep::Member(first), mut end)) = steps.next() else {
            return Err(PathError::Syntax {
                path: path.to_owned(),
                column: 1,
            });
        };
        let argument = names.iter().position(|name| name == first);
        let found = argument.and_then(|at| Some((at, *ids.get(at)?)));
        let Some((argument, type_id)) = found else {
            return Err(PathError::NoArgument {
                argument: first.to_owned(),
                arguments: names,
            });
        };
        let mut walk = Walk {
            object: self,
            type_id,
            place: None,
            bits: None,
        };
        for (step, until) in steps {
            let so_far = &path[..end];
            match step {
                PathStep::Member(name) => walk.member(name, so_far)?,
                PathStep::Element(index) => walk.element(index, so_far)?,
            }
            end = until;
        }
        let leaf = walk.leaf(path)?;
        Ok(ArgumentPath {
            argument: argument as u32,
            c_type: walk.spelled(),
            place: walk.place,
            leaf,
        })
    }

    /// Returns the names that paths begin with: an argument's own, or `arg0` and so on.
    pub(crate) fn argument_names(&self, event: &str) -> Result<Vec<String>, BtfError> {
        let arguments = self.arguments(event)?.unwrap_or_default();
        let names = arguments.into_iter().enumerate();
        Ok(names
            .map(|(at, (name, _))| name.unwrap_or_else(|| format!("arg{at}")))
            .collect())
    }

    /// Returns the types of a tracepoint's arguments, without the leading `void *__data`.
    pub(crate) fn argument_types(&self, event: &str) -> Vec<TypeId> {
        let section = self.section();
        let target = |id| section.type_by_id(id)?.target();
        let prototype = self
            .index()
            .event_typedef(event)
            .and_then(target)
            .and_then(target)
            .and_then(|id| section.type_by_id(id));
        let parameters = prototype.into_iter().flat_map(|ty| ty.parameters());
        parameters
            .skip(1)
            .map(|parameter| parameter.type_id)
            .collect()
    }
}

impl Walk<'_> {
    fn section(&self) -> &Section {
        self.object.section()
    }

    /// Returns the type in C, for messages.
    fn spelled(&self) -> String {
        spelled(self.object, self.type_id)
    }

    /// Follows the current type if it is a pointer: the walk continues at the pointer's
    /// target.
    fn follow(&mut self) {
        let pointer = match self.section().resolve(self.type_id) {
            Some((_, ty)) if ty.kind == Kind::Ptr => ty.target().unwrap_or(0),
            _ => return,
        };
        let pointer_size = self.section().pointer_size();
        let mut hops = Vec::new();
        if let Some(place) = self.place.take() {
            hops = place.hops;
            hops.push(place.offset);
        }
        self.place = Some(Reached {
            hops,
            offset: 0,
            pointer_size,
        });
        self.type_id = pointer;
    }

    fn member(&mut self, name: &str, so_far: &str) -> Result<(), PathError> {
        let is = self.spelled();
        self.follow();
        let object = self.object;
        let section = object.section();
        let no_struct = || PathError::NoStruct {
            path: so_far.to_owned(),
            is: is.clone(),
        };
        let (id, ty) = section.resolve(self.type_id).ok_or_else(no_struct)?;
        if !matches!(ty.kind, Kind::Struct | Kind::Union) || self.bits.is_some() {
            return Err(no_struct());
        }
        let Some(place) = &mut self.place else {
            return Err(PathError::ByValue {
                path: so_far.to_owned(),
            });
        };
        let Some(found) = section.member_bits(id, name.as_bytes()) else {
            return Err(PathError::NoMember {
                path: so_far.to_owned(),
                within: spelled(object, id),
                member: name.to_owned(),
                members: section.member_names(id),
            });
        };
        let bits = match found.bitfield_size {
            0 => None,
            width => Some((found.bit_offset % 8, width)),
        };
        let offset = place.offset.checked_add(found.bit_offset / 8);
        place.offset = offset.filter(is_offset).ok_or_else(no_struct)?;
        self.bits = bits;
        self.type_id = found.type_id;
        Ok(())
    }

    fn element(&mut self, index: u32, so_far: &str) -> Result<(), PathError> {
        let no_element = PathError::NoElement {
            path: so_far.to_owned(),
            is: self.spelled(),
            index,
        };
        let section = self.object.section();
        let Some((_, ty)) = section.resolve(self.type_id) else {
            return Err(no_element);
        };
        let element = match ty.kind {
            Kind::Ptr => {
                self.follow();
                self.type_id
            }
            // A flexible array says nothing of its length.
            Kind::Array => match ty.array() {
                Some((element, count)) if index < count || count == 0 => element,
                _ => return Err(no_element),
            },
            _ => return Err(no_element),
        };
        let size = section.size_of(element).filter(|size| *size > 0);
        let skipped = size.and_then(|size| size.checked_mul(index));
        let (Some(skipped), Some(place)) = (skipped, &mut self.place) else {
            return Err(no_element);
        };
        let offset = place.offset.checked_add(skipped).filter(is_offset);
        place.offset = offset.ok_or(no_element)?;
        self.type_id = element;
        Ok(())
    }

    fn leaf(&self, path: &str) -> Result<Leaf, PathError> {
        let no_value = || PathError::NoValue {
            path: path.to_owned(),
            is: self.spelled(),
        };
        let section = self.section();
        let (id, ty) = section.resolve(self.type_id).ok_or_else(no_value)?;
        if let Some((first, width)) = self.bits {
            let signed = match ty.kind {
                Kind::Int => ty.is_signed_int(),
                Kind::Enum | Kind::Enum64 => ty.flag(),
                _ => return Err(no_value()),
            };
            let size = (first + width).div_ceil(8).next_power_of_two();
            return match size {
                1 | 2 | 4 | 8 => Ok(Leaf::Integer {
                    size,
                    signed,
                    bits: Some((first, width)),
                    names: names_of(&ty),
                }),
                _ => Err(no_value()),
            };
        }
        let size = section.size_of(id);
        let bytes = || match size {
            Some(size @ 1..) => Ok(Leaf::Bytes { size }),
            _ => Err(no_value()),
        };
        match (ty.kind, size) {
            (Kind::Int, Some(size @ (1 | 2 | 4 | 8))) => Ok(Leaf::Integer {
                size,
                signed: ty.is_signed_int(),
                bits: None,
                names: Vec::new(),
            }),
            (Kind::Enum | Kind::Enum64, Some(size @ (1 | 2 | 4 | 8))) => Ok(Leaf::Integer {
                size,
                signed: ty.flag(),
                bits: None,
                names: names_of(&ty),
            }),
            (Kind::Ptr, _) => {
                let size = section.pointer_size();
                let target = ty.target().unwrap_or(0);
                Ok(match is_char(section, target) {
                    true => Leaf::TextPointer {
                        size,
                        of_user: is_of_user(section, target),
                    },
                    false => Leaf::Pointer { size },
                })
            }
            (Kind::Array, _) => {
                let (element, _) = ty.array().ok_or_else(no_value)?;
                if is_char(section, element) {
                    let size = size.unwrap_or(0);
                    return Ok(Leaf::Text { size });
                }
                let element = section.resolve(element).ok_or_else(no_value)?;
                let (Some(width @ (1 | 2 | 4 | 8)), Some(size @ 1..)) =
                    (section.size_of(element.0), size)
                else {
                    return bytes();
                };
                match element.1.kind {
                    Kind::Int | Kind::Enum | Kind::Enum64 | Kind::Ptr => Ok(Leaf::Integers {
                        element: width,
                        signed: element.1.is_signed_int(),
                        size,
                    }),
                    _ => bytes(),
                }
            }
            _ => bytes(),
        }
    }
}

/// Whether programs can add the offset: they do so with signed 32-bit numbers.
fn is_offset(offset: &u32) -> bool {
    *offset < 1 << 30
}

fn names_of(ty: &super::Type<'_>) -> Vec<(String, i128)> {
    let values = ty.values();
    values
        .map(|(name, value)| (String::from_utf8_lossy(name).into_owned(), value))
        .collect()
}

pub(super) fn is_char(section: &Section, id: TypeId) -> bool {
    let resolved = section.resolve(id);
    resolved.is_some_and(|(_, ty)| ty.kind == Kind::Int && ty.name() == b"char")
}

/// Whether a type is tagged as memory of processes: `__user`, in BTF made by clang, and by
/// gcc from 16 on.
fn is_of_user(section: &Section, mut id: TypeId) -> bool {
    for _ in 0..MAX_CHAIN {
        let Some(ty) = section.type_by_id(id) else {
            return false;
        };
        if ty.kind == Kind::TypeTag && ty.name() == b"user" {
            return true;
        }
        match ty.target() {
            Some(target) if ty.is_alias() => id = target,
            _ => return false,
        }
    }
    false
}

fn spelled(object: &Object, id: TypeId) -> String {
    let section = object.section();
    // Only the outermost pointers and the name: a struct's members may be thousands.
    let resolved = section.type_by_id(id);
    if let Some(ty) = resolved
        && matches!(ty.kind, Kind::Struct | Kind::Union)
    {
        let keyword = if ty.kind == Kind::Union {
            "union"
        } else {
            "struct"
        };
        let name = String::from_utf8_lossy(ty.name());
        return match name.is_empty() {
            true => format!("{keyword} {{…}}"),
            false => format!("{keyword} {name}"),
        };
    }
    match object.c_type(id) {
        Ok(ty) => ty.declare(""),
        Err(_) => "of a type that cannot be described".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_split() {
        let split = |path| {
            let steps = steps(path).map_err(|error| error.to_string())?;
            let steps = steps.into_iter().map(|(step, end)| match step {
                PathStep::Member(name) => format!("{name}@{end}"),
                PathStep::Element(index) => format!("[{index}]@{end}"),
            });
            Ok::<_, String>(steps.collect::<Vec<_>>().join(" "))
        };
        assert_eq!(split("prev"), Ok("prev@4".to_owned()));
        assert_eq!(
            split("a->b.c[12]->d"),
            Ok("a@1 b@4 c@6 [12]@10 d@13".to_owned())
        );
        for (path, column) in [
            ("", 1),
            ("[0]", 1),
            ("a-", 2),
            ("a->", 4),
            ("a->1", 4),
            ("a b", 2),
            ("a[x]", 3),
            ("a[1", 2),
            ("ä", 1),
            ("aä", 2),
        ] {
            let error = steps(path).expect_err(path);
            let PathError::Syntax { column: found, .. } = error else {
                panic!("{error:?}");
            };
            assert_eq!(found, column, "{path}");
        }
        assert!(steps(&"a".repeat(257)).is_err());
        assert!(steps(&format!("a{}", "[0]".repeat(30))).is_err());
    }
}
