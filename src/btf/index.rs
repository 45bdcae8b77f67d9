//! The tracepoints of one BTF object, found in one pass.
//!
//! For every event class `c`, `include/trace/trace_events.h` and
//! `include/trace/bpf_probe.h` make `struct trace_event_raw_c` and the function
//! `__bpf_trace_c`, and for every event `e` the typedef `btf_trace_e`. All are in the one
//! object that defines the event: its home.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, OnceLock};

use super::error::BtfError;
use super::kind::Kind;
use super::prototype::{KnownPrototypes, Prototype, Prototypes, Room};
use super::section::{Section, TypeId};

/// An event class of the object: a `struct trace_event_raw_<name>`.
#[derive(Clone, Debug)]
pub(crate) struct Class {
    struct_name: Arc<str>,
    pub(crate) struct_id: TypeId,
    /// `None` where BTF has no `__bpf_trace_<name>`, or several that differ.
    prototype: Option<Prototype>,
    /// The function `__bpf_trace_<name>`; 0 if BTF has none, or several that differ.
    function: TypeId,
}

impl Class {
    pub(crate) fn name(&self) -> &str {
        &self.struct_name[STRUCT_PREFIX.len()..]
    }

    /// Returns the `FUNC_PROTO` of `__bpf_trace_<name>`, if BTF has exactly one.
    pub(crate) fn function_prototype(&self, section: &Section) -> Option<TypeId> {
        section.type_by_id(self.function)?.target()
    }

    /// Returns the prototype of the class's events, if BTF has it.
    pub(crate) fn prototype(&self) -> Option<Prototype> {
        self.prototype
    }

    /// Returns `trace_event_raw_<name>`, shared by the contexts of its events.
    pub(crate) fn struct_name(&self) -> &Arc<str> {
        &self.struct_name
    }
}

/// A tracepoint of the object: a `btf_trace_<event>`.
#[derive(Clone, Debug)]
struct DefinedTracepoint {
    typedef: TypeId,
    /// `None` where the typedef leads to no prototype, or two typedefs differ.
    prototype: Option<Prototype>,
    /// Whether all typedefs of the name lead to one `FUNC_PROTO`.
    is_exact: bool,
}

/// The trace types of one object.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Sorted by name. Names may repeat: two sources may each have a class of the same
    /// name.
    classes: Vec<Class>,
    /// Each class's prototype, and the class's place in `classes`, sorted.
    by_prototype: Vec<(Option<Prototype>, usize)>,
    prototypes: KnownPrototypes,
    events: HashMap<Box<str>, DefinedTracepoint>,
    known_structs: Vec<(&'static str, TypeId)>,
    /// The functions that name their parameters as a tracepoint names its arguments, each
    /// with the offset of its name.
    argument_functions: Vec<(u32, TypeId)>,
    /// The offsets of the names of the functions `trace_raw_output_<name>`.
    output_functions: Vec<u32>,
    /// Computed on first use, as few events need them.
    header_runs: OnceLock<HeaderRuns>,
}

/// Structs that are looked up by name.
const KNOWN_STRUCTS: [&str; 12] = [
    // The context of `syscalls:*`: the kernel's local `syscall_tp_t`, and structs that
    // may have its layout.
    "syscall_tp_t",
    "syscall_trace_enter",
    "syscall_trace_exit",
    // The path from the open file of an event to its class.
    "task_struct",
    "files_struct",
    "fdtable",
    "file",
    "inode",
    "trace_event_file",
    "trace_event_call",
    "trace_event_class",
    // The number of a system call's event.
    "syscall_metadata",
];

/// The prefix of every context struct's name; the event class follows.
pub(crate) const STRUCT_PREFIX: &str = "trace_event_raw_";
const TYPEDEF_PREFIX: &str = "btf_trace_";
const FUNC_PREFIX: &str = "__bpf_trace_";
/// The functions that print records: one for each class, and one for each event of
/// `DEFINE_EVENT_PRINT`.
const OUTPUT_PREFIX: &[u8] = b"trace_raw_output_";
/// Prefixes of functions that have a tracepoint's arguments with their names; the first
/// exists since Linux 6.5.
const ARGUMENT_PREFIXES: [&[u8]; 2] = [b"__probestub_", b"__traceiter_"];

/// The types that the pass over all types finds, each with the offset of its name. The
/// types they refer to are resolved afterwards.
#[derive(Default)]
pub(super) struct Collector {
    structs: Vec<(u32, TypeId)>,
    typedefs: Vec<(u32, TypeId)>,
    funcs: Vec<(u32, TypeId)>,
    argument_functions: Vec<(u32, TypeId)>,
    output_functions: Vec<u32>,
    known_structs: Vec<(&'static str, TypeId)>,
}

impl Collector {
    /// Records a type if it is about tracepoints.
    pub(super) fn visit(&mut self, section: &Section, id: TypeId, kind: Kind, name: u32) {
        let begin = section.text_from(name);
        match kind {
            Kind::Typedef if begin.starts_with(TYPEDEF_PREFIX.as_bytes()) => {
                self.typedefs.push((name, id));
            }
            // The names of the functions below begin with two underscores, as few others
            // do.
            Kind::Func if begin.starts_with(b"__") => {
                if begin.starts_with(FUNC_PREFIX.as_bytes()) {
                    self.funcs.push((name, id));
                } else if ARGUMENT_PREFIXES
                    .iter()
                    .any(|prefix| begin.starts_with(prefix))
                {
                    self.argument_functions.push((name, id));
                }
            }
            Kind::Func if begin.starts_with(OUTPUT_PREFIX) => self.output_functions.push(name),
            Kind::Struct if begin.starts_with(STRUCT_PREFIX.as_bytes()) => {
                self.structs.push((name, id));
            }
            Kind::Struct => {
                // The first two bytes exclude most structs.
                let first = begin.first_chunk::<2>();
                let known = KNOWN_STRUCTS.iter().find(|known| {
                    known.as_bytes().first_chunk() == first
                        && section.is_name(name, [known.as_bytes(), b""])
                });
                self.known_structs.extend(known.map(|known| (*known, id)));
            }
            _ => {}
        }
    }

    /// Resolves the prototypes of the types that were found. `base` is vmlinux's index,
    /// for a module.
    pub(super) fn finish(self, section: &Section, base: Option<&Index>) -> Result<Index, BtfError> {
        let count = self.structs.len()
            + self.typedefs.len()
            + self.funcs.len()
            + self.argument_functions.len()
            + self.output_functions.len()
            + self.known_structs.len();
        if count > MAX_TYPES {
            return Err(BtfError::TooManyTracepoints { limit: MAX_TYPES });
        }
        let mut prototypes = Prototypes {
            section,
            base: base.map(|base| &base.prototypes),
            found: HashMap::with_capacity(self.funcs.len()),
            by_id: HashMap::with_capacity(self.funcs.len() + self.typedefs.len()),
            spelled: Vec::new(),
            room: Room::of(section),
        };
        let target = |id| section.type_by_id(id)?.target();
        let funcs: HashMap<&str, DefinedTracepoint> =
            prototypes.by_name(&self.funcs, FUNC_PREFIX, target)?;
        let event_target = |id| target(target(id)?);
        let events = prototypes.by_name(&self.typedefs, TYPEDEF_PREFIX, event_target)?;
        let mut classes = Vec::with_capacity(self.structs.len());
        for (name, struct_id) in self.structs {
            let Some((struct_name, class)) = prototypes.name(name, STRUCT_PREFIX)? else {
                continue;
            };
            classes.push(Class {
                struct_name: struct_name.into(),
                struct_id,
                prototype: funcs.get(class).and_then(|func| func.prototype),
                function: match funcs.get(class) {
                    Some(func) if func.is_exact => func.typedef,
                    _ => 0,
                },
            });
        }
        classes.sort_unstable_by(|a, b| (a.name(), a.struct_id).cmp(&(b.name(), b.struct_id)));
        let places = classes.iter().enumerate();
        let mut by_prototype: Vec<_> = places.map(|(at, class)| (class.prototype, at)).collect();
        by_prototype.sort_unstable();
        Ok(Index {
            classes,
            by_prototype,
            prototypes: prototypes.found,
            events,
            known_structs: self.known_structs,
            argument_functions: self.argument_functions,
            output_functions: self.output_functions,
            header_runs: OnceLock::new(),
        })
    }
}

/// The most types about tracepoints in one object: Linux 7.3 has 5,000. A query for one
/// event may go through all of them.
const MAX_TYPES: usize = 1 << 16;

impl<'a> Prototypes<'a> {
    /// Maps the types by name, without the prefix.
    fn by_name<Name: Eq + Hash + From<&'a str>>(
        &mut self,
        named: &[(u32, TypeId)],
        prefix: &str,
        prototype: impl Fn(TypeId) -> Option<TypeId>,
    ) -> Result<HashMap<Name, DefinedTracepoint>, BtfError> {
        let mut found: HashMap<Name, DefinedTracepoint> = HashMap::with_capacity(named.len());
        for &(name, typedef) in named {
            let Some((_, name)) = self.name(name, prefix)? else {
                continue;
            };
            let prototype_id = prototype(typedef);
            let coarse = match prototype_id {
                Some(id) => self.prototype(id)?,
                None => None,
            };
            let new = DefinedTracepoint {
                typedef,
                prototype: coarse,
                is_exact: true,
            };
            found
                .entry(name.into())
                .and_modify(|known| {
                    if known.prototype != new.prototype {
                        known.prototype = None;
                    }
                    known.is_exact &= prototype(known.typedef) == prototype_id;
                })
                .or_insert(new);
        }
        Ok(found)
    }

    /// Returns the name at this offset: whole, and after the prefix. The kernel's
    /// identifiers are ASCII; other names cannot be asked for.
    fn name(&mut self, name: u32, prefix: &str) -> Result<Option<(&'a str, &'a str)>, BtfError> {
        let bytes = self.section.name(name).unwrap_or_default();
        self.room.take(bytes.len())?;
        let text = std::str::from_utf8(bytes).ok();
        Ok(text.and_then(|text| Some((text, text.strip_prefix(prefix)?))))
    }
}

impl Index {
    /// Whether this object is the home of an event of this name.
    pub(crate) fn has_event(&self, event: &str) -> bool {
        self.events.contains_key(event)
    }

    /// Returns the typedef `btf_trace_<event>`.
    pub(crate) fn event_typedef(&self, event: &str) -> Option<TypeId> {
        Some(self.events.get(event)?.typedef)
    }

    /// Iterates over the names of all tracepoints this object defines, in no order.
    pub(crate) fn event_names(&self) -> impl Iterator<Item = &str> {
        self.events.keys().map(|name| &**name)
    }

    /// Returns the arguments of an event; `None` if BTF does not have them.
    pub(crate) fn prototype_of(&self, event: &str) -> Option<Prototype> {
        self.events.get(event)?.prototype
    }

    /// Returns the arguments of an event as a `FUNC_PROTO` of the object or its base;
    /// `None` if BTF does not have them, or if typedefs of that name lead to several
    /// prototypes.
    pub(crate) fn event_prototype(&self, section: &Section, event: &str) -> Option<TypeId> {
        let event = self.events.get(event).filter(|event| event.is_exact)?;
        let pointer = section.type_by_id(event.typedef)?.target()?;
        section.type_by_id(pointer)?.target()
    }

    /// Whether the object has a function `trace_raw_output_<name>`.
    pub(crate) fn has_output_function(&self, section: &Section, name: &str) -> bool {
        let mut functions = self.output_functions.iter();
        functions.any(|at| section.is_name(*at, [OUTPUT_PREFIX, name.as_bytes()]))
    }

    fn header_runs(&self, section: &Section) -> &HeaderRuns {
        self.header_runs.get_or_init(|| {
            let name = |id| section.type_by_id(id).map(|ty| ty.name_offset());
            let classes = self.classes.iter().flat_map(|class| name(class.struct_id));
            let events = self.events.values().flat_map(|event| name(event.typedef));
            HeaderRuns::of(section.first_name(), classes, events)
        })
    }

    /// Returns the number of the header run that a class of this object is in; `None` if
    /// its name is not in the object's own strings.
    pub(crate) fn header_run_of_class(&self, section: &Section, class: &Class) -> Option<usize> {
        let name = section.type_by_id(class.struct_id)?.name_offset();
        self.header_runs(section).run_at(name)
    }

    /// Returns the number of the header run that an event of this object is in.
    pub(crate) fn header_run_of_event(&self, section: &Section, event: &str) -> Option<usize> {
        let typedef = self.event_typedef(event)?;
        let name = section.type_by_id(typedef)?.name_offset();
        self.header_runs(section).run_at(name)
    }

    /// Returns the classes of this name: none, one, or very rarely more.
    pub(crate) fn classes_named(&self, name: &str) -> &[Class] {
        let start = self.classes.partition_point(|class| class.name() < name);
        let rest = &self.classes[start..];
        let length = rest.iter().take_while(|class| class.name() == name).count();
        &rest[..length]
    }

    /// Returns the classes whose events may have these arguments: first those whose
    /// arguments are not known. Classes with the same arguments are sorted by name.
    pub(crate) fn classes_taking(
        &self,
        arguments: Option<Prototype>,
    ) -> impl Iterator<Item = &Class> {
        let first = |prototype| {
            self.by_prototype
                .partition_point(|(own, _)| *own < prototype)
        };
        let unknown = ..first(Some(Prototype(0)));
        // An unknown prototype excludes nothing.
        let same = match arguments {
            None => unknown.end..self.by_prototype.len(),
            Some(Prototype(one)) => first(arguments)..first(Some(Prototype(one + 1))),
        };
        let places = self.by_prototype[unknown]
            .iter()
            .chain(&self.by_prototype[same]);
        places.map(|(_, at)| &self.classes[*at])
    }

    /// Iterates over the events that may have these arguments, in no order.
    pub(crate) fn events_taking(&self, arguments: Option<Prototype>) -> impl Iterator<Item = &str> {
        let may_take = move |event: &DefinedTracepoint| {
            arguments.is_none() || event.prototype.is_none() || event.prototype == arguments
        };
        self.events
            .iter()
            .filter(move |(_, event)| may_take(event))
            .map(|(name, _)| &**name)
    }

    /// Returns the functions that may name an event's arguments, in the order they are
    /// tried. Names are compared only now, as few events are asked about.
    pub(super) fn argument_functions(&self, section: &Section, event: &str) -> Vec<TypeId> {
        let of = |prefix: &'static [u8]| {
            let functions = self.argument_functions.iter();
            let functions = functions
                .filter(move |(name, _)| section.is_name(*name, [prefix, event.as_bytes()]));
            functions.map(|(_, id)| *id)
        };
        ARGUMENT_PREFIXES.into_iter().flat_map(of).collect()
    }

    /// Iterates over the structs with one of the names in [`KNOWN_STRUCTS`].
    pub(crate) fn known_structs(&self, name: &str) -> impl Iterator<Item = TypeId> {
        let known = self.known_structs.iter();
        known
            .filter(move |(known, _)| *known == name)
            .map(|(_, id)| *id)
    }
}

/// The runs in which an object's strings name classes and events.
///
/// A compiler writes the types of a source file in the order it meets them, and
/// `include/trace/define_trace.h` includes a header of events several times: first for
/// the structs of all its classes, later, in `bpf_probe.h`, for the typedefs of all its
/// events. pahole keeps that order in the strings, and sorting types by name (Linux 7.3)
/// does not change the strings. So names come in runs: the classes of one header, then
/// its events, then the classes of the next header.
#[derive(Debug)]
struct HeaderRuns {
    /// The offset of the name of each run's first class, sorted.
    starts: Vec<u32>,
    /// Names at smaller offsets are the base's, and in none of this object's runs.
    first_name: u32,
}

impl HeaderRuns {
    fn of(
        first_name: u32,
        classes: impl Iterator<Item = u32>,
        events: impl Iterator<Item = u32>,
    ) -> Self {
        // An offset and its kind in one number, which sorts fast.
        let key = |at, is_class| u64::from(at) << 1 | u64::from(is_class);
        let classes = classes.map(|at: u32| key(at, true));
        let mut names: Vec<u64> = classes.chain(events.map(|at| key(at, false))).collect();
        names.sort_unstable();
        let mut starts = Vec::new();
        let mut was_class = false;
        for name in names {
            let (at, is_class) = ((name >> 1) as u32, name & 1 == 1);
            if at < first_name {
                continue;
            }
            if is_class && !was_class {
                starts.push(at);
            }
            was_class = is_class;
        }
        Self { starts, first_name }
    }

    /// Returns the number of the run that a name is in.
    fn run_at(&self, name: u32) -> Option<usize> {
        let number = self.starts.partition_point(|start| *start <= name);
        (name >= self.first_name).then_some(number)
    }
}
