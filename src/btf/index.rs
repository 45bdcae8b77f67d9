//! What one BTF object says about tracepoints, found in one pass.
//!
//! `include/trace/trace_events.h` and `include/trace/bpf_probe.h` make, for
//! every event class `c`, `struct trace_event_raw_c` and the function
//! `__bpf_trace_c`, and for every event `e` the typedef `btf_trace_e`, in the
//! one object that defines the event: its home.

use std::collections::HashMap;

use super::section::{Kind, MAX_CHAIN, Section, Type, TypeId};

/// The parameter types all events of one class share; equal numbers, equal
/// prototypes, within one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PrototypeId(usize);

/// An event class of the object: a `struct trace_event_raw_<name>`.
#[derive(Clone, Debug)]
pub(crate) struct Class {
    pub(crate) name: Box<str>,
    pub(crate) struct_id: TypeId,
    /// `None` where BTF has no `__bpf_trace_<name>`, or several that differ.
    prototype: Option<PrototypeId>,
}

/// A tracepoint of the object: a `btf_trace_<event>`.
#[derive(Clone, Copy, Debug)]
struct Event {
    typedef: TypeId,
    /// `None` where the typedef leads to no prototype, or two typedefs differ.
    prototype: Option<PrototypeId>,
}

/// The trace types of one object.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Sorted by name. A name may stand twice: two sources may each have a
    /// class of their own by it.
    classes: Vec<Class>,
    events: HashMap<Box<str>, Event>,
    syscall_structs: HashMap<&'static str, Vec<TypeId>>,
}

/// The structs a `syscalls:*` context may be: the kernel's local
/// `syscall_tp_t` and the named ones that may have its layout.
pub(crate) const SYSCALL_STRUCTS: [&str; 3] =
    ["syscall_tp_t", "syscall_trace_enter", "syscall_trace_exit"];

const STRUCT_PREFIX: &[u8] = b"trace_event_raw_";
const TYPEDEF_PREFIX: &[u8] = b"btf_trace_";
const FUNC_PREFIX: &[u8] = b"__bpf_trace_";

/// What the pass over the types finds, before what it points at is known.
#[derive(Default)]
pub(super) struct Collector {
    structs: Vec<(Box<str>, TypeId)>,
    typedefs: Vec<(Box<str>, TypeId)>,
    funcs: Vec<(Box<str>, TypeId)>,
    syscall_structs: HashMap<&'static str, Vec<TypeId>>,
}

impl Collector {
    /// Takes note of a type if it is about tracepoints.
    pub(super) fn visit(&mut self, id: TypeId, kind: Kind, name: &[u8]) {
        let (prefix, found) = match kind {
            Kind::Struct => (STRUCT_PREFIX, &mut self.structs),
            Kind::Typedef => (TYPEDEF_PREFIX, &mut self.typedefs),
            Kind::Func => (FUNC_PREFIX, &mut self.funcs),
            _ => return,
        };
        // The kernel's identifiers are ASCII; no other can be asked for.
        let stripped = name.strip_prefix(prefix);
        if let Some(rest) = stripped.and_then(|rest| std::str::from_utf8(rest).ok()) {
            found.push((rest.into(), id));
        } else if kind == Kind::Struct && name.starts_with(b"syscall_") {
            let known = SYSCALL_STRUCTS
                .iter()
                .find(|known| known.as_bytes() == name);
            if let Some(known) = known {
                self.syscall_structs.entry(known).or_default().push(id);
            }
        }
    }

    /// Follows what was found to its prototypes.
    pub(super) fn finish(self, section: &Section) -> Index {
        let mut prototypes = Prototypes::new(section);
        let funcs = prototypes.by_name(self.funcs, |id| {
            section.type_by_id(section.type_by_id(id)?.target()?)
        });
        let events = prototypes.by_name(self.typedefs, |id| {
            let pointer = section.type_by_id(section.type_by_id(id)?.target()?)?;
            section.type_by_id(pointer.target()?)
        });
        let mut classes: Vec<Class> = self
            .structs
            .into_iter()
            .map(|(name, struct_id)| Class {
                prototype: funcs.get(&name).and_then(|func| func.prototype),
                name,
                struct_id,
            })
            .collect();
        classes.sort_by(|a, b| (&a.name, a.struct_id).cmp(&(&b.name, b.struct_id)));
        Index {
            classes,
            events,
            syscall_structs: self.syscall_structs,
        }
    }
}

/// Gives lists of compatible parameter types equal numbers.
///
/// An event's prototype need not be its class's to the letter: the compiler
/// only checks that the class's functions can be called by it, so that one may
/// say `uint64_t` where the other says `xfs_fsblock_t`, or an enum's name for
/// `unsigned int`. What is counted as equal here must never be less than what a
/// compiler takes, or the true class would be ruled out; more only leaves more
/// candidates.
struct Prototypes<'a> {
    section: &'a Section,
    lists: HashMap<Vec<ShapeId>, PrototypeId>,
    shapes: HashMap<Shape<'a>, ShapeId>,
    known: HashMap<TypeId, ShapeId>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct ShapeId(usize);

/// A type as far as calls can tell it from others.
#[derive(PartialEq, Eq, Hash)]
enum Shape<'a> {
    /// A struct or union, defined or only declared.
    Named(&'a [u8]),
    /// An int or enum of this many bytes, other than `long`s and `bool`.
    Integer(u32),
    Pointer(ShapeId),
    Qualified(ShapeId),
    Function,
    /// Anything else is only itself.
    Type(TypeId),
}

impl<'a> Prototypes<'a> {
    fn new(section: &'a Section) -> Self {
        Self {
            section,
            lists: HashMap::new(),
            shapes: HashMap::new(),
            known: HashMap::new(),
        }
    }

    fn by_name(
        &mut self,
        named: Vec<(Box<str>, TypeId)>,
        prototype: impl Fn(TypeId) -> Option<Type<'a>>,
    ) -> HashMap<Box<str>, Event> {
        let mut found: HashMap<Box<str>, Event> = HashMap::with_capacity(named.len());
        for (name, typedef) in named {
            let number = prototype(typedef).and_then(|prototype| self.prototype(prototype));
            found
                .entry(name)
                .and_modify(|known| {
                    if known.prototype != number {
                        known.prototype = None;
                    }
                })
                .or_insert(Event {
                    typedef,
                    prototype: number,
                });
        }
        found
    }

    fn prototype(&mut self, ty: Type<'a>) -> Option<PrototypeId> {
        if ty.kind != Kind::FuncProto {
            return None;
        }
        let parameters = ty.parameters().map(|id| {
            // A parameter's own qualifiers are no matter to its caller.
            let id = self.section.resolve(id).map_or(id, |(id, _)| id);
            self.shape(id, MAX_CHAIN)
        });
        let parameters = parameters.collect::<Option<Vec<_>>>()?;
        let next = PrototypeId(self.lists.len());
        Some(*self.lists.entry(parameters).or_insert(next))
    }

    fn shape(&mut self, id: TypeId, depth: usize) -> Option<ShapeId> {
        if let Some(known) = self.known.get(&id) {
            return Some(*known);
        }
        let depth = depth.checked_sub(1)?;
        let shape = match self.section.type_by_id(id) {
            None => Shape::Type(id),
            Some(ty) => match (ty.kind, ty.name(), ty.target()) {
                (Kind::Typedef | Kind::TypeTag, _, Some(target)) => {
                    let shape = self.shape(target, depth)?;
                    self.known.insert(id, shape);
                    return Some(shape);
                }
                (Kind::Ptr, _, Some(target)) => Shape::Pointer(self.shape(target, depth)?),
                (Kind::Const | Kind::Volatile | Kind::Restrict, _, Some(target)) => {
                    Shape::Qualified(self.shape(target, depth)?)
                }
                (Kind::Struct | Kind::Union | Kind::Fwd, name, _) if !name.is_empty() => {
                    Shape::Named(name)
                }
                (Kind::Enum | Kind::Enum64, ..) => Shape::Integer(ty.size()),
                (Kind::Int, name, _) if !is_long_or_bool(name) => Shape::Integer(ty.size()),
                (Kind::FuncProto, ..) => Shape::Function,
                _ => Shape::Type(id),
            },
        };
        let next = ShapeId(self.shapes.len());
        let shape = *self.shapes.entry(shape).or_insert(next);
        self.known.insert(id, shape);
        Some(shape)
    }
}

fn is_long_or_bool(name: &[u8]) -> bool {
    name == b"_Bool" || name == b"bool" || name.windows(4).any(|word| word == b"long")
}

impl Index {
    /// Whether this object is the home of an event of this name.
    pub(crate) fn has_event(&self, event: &str) -> bool {
        self.events.contains_key(event)
    }

    /// The typedef `btf_trace_<event>`.
    pub(crate) fn event_typedef(&self, event: &str) -> Option<TypeId> {
        Some(self.events.get(event)?.typedef)
    }

    /// The names of all tracepoints this object defines, in no order.
    pub(crate) fn event_names(&self) -> impl Iterator<Item = &str> {
        self.events.keys().map(|name| &**name)
    }

    fn prototype_of(&self, event: &str) -> Option<PrototypeId> {
        self.events.get(event)?.prototype
    }

    /// The classes of this name: none, one, or very rarely more.
    pub(crate) fn classes_named(&self, name: &str) -> &[Class] {
        let start = self.classes.partition_point(|class| &*class.name < name);
        let rest = &self.classes[start..];
        let length = rest.iter().take_while(|class| &*class.name == name).count();
        &rest[..length]
    }

    /// The classes an event may be of by its prototype alone, by name.
    pub(crate) fn classes_of_event(&self, event: &str) -> impl Iterator<Item = &Class> {
        let of_event = self.prototype_of(event);
        self.classes.iter().filter(move |class| {
            match (class.prototype, of_event) {
                (Some(class), Some(event)) => class == event,
                // What BTF does not say rules nothing out.
                _ => true,
            }
        })
    }

    /// The events that may be of the same class as this one by their
    /// prototypes alone, in no order.
    pub(crate) fn events_like(&self, event: &str) -> impl Iterator<Item = &str> {
        let of_event = self.prototype_of(event);
        self.events
            .iter()
            .filter(move |(_, event)| {
                event.prototype.is_none() || of_event.is_none() || event.prototype == of_event
            })
            .map(|(name, _)| &**name)
    }

    /// The structs of one of [`SYSCALL_STRUCTS`]' names.
    pub(crate) fn syscall_structs(&self, name: &str) -> &[TypeId] {
        self.syscall_structs.get(name).map_or(&[], Vec::as_slice)
    }
}
