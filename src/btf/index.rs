//! What one BTF object says about tracepoints, found in one pass.
//!
//! `include/trace/trace_events.h` and `include/trace/bpf_probe.h` make, for
//! every event class `c`, `struct trace_event_raw_c` and the function
//! `__bpf_trace_c`, and for every event `e` the typedef `btf_trace_e`, in the
//! one object that defines the event: its home.

use std::collections::HashMap;
use std::sync::Arc;

use super::section::{Kind, MAX_CHAIN, Section, TypeId};

/// The types of a tracepoint's arguments, as far as calls can tell them apart:
/// the same for all events of a class, and comparable between a module and
/// vmlinux, but not between two modules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Prototype(usize);

/// An event class of the object: a `struct trace_event_raw_<name>`.
#[derive(Clone, Debug)]
pub(crate) struct Class {
    struct_name: Arc<str>,
    pub(crate) struct_id: TypeId,
    /// `None` where BTF has no `__bpf_trace_<name>`, or several that differ.
    prototype: Option<Prototype>,
}

impl Class {
    pub(crate) fn name(&self) -> &str {
        &self.struct_name[STRUCT_PREFIX.len()..]
    }

    /// `trace_event_raw_<name>`, to be shared by the contexts of its events.
    pub(crate) fn struct_name(&self) -> &Arc<str> {
        &self.struct_name
    }
}

/// A tracepoint of the object: a `btf_trace_<event>`.
#[derive(Clone, Debug)]
struct Event {
    typedef: TypeId,
    /// `None` where the typedef leads to no prototype, or two typedefs differ.
    prototype: Option<Prototype>,
}

/// The trace types of one object.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Sorted by name. A name may stand twice: two sources may each have a
    /// class of their own by it.
    classes: Vec<Class>,
    /// Each class's prototype and place in `classes`, sorted.
    by_prototype: Vec<(Option<Prototype>, usize)>,
    prototypes: KnownPrototypes,
    events: HashMap<Box<str>, Event>,
    syscall_structs: HashMap<&'static str, Vec<TypeId>>,
    /// The functions whose parameters are named as a tracepoint's arguments are,
    /// each with its name's offset.
    argument_functions: Vec<(u32, TypeId)>,
}

/// The structs a `syscalls:*` context may be: the kernel's local
/// `syscall_tp_t` and the named ones that may have its layout.
pub(crate) const SYSCALL_STRUCTS: [&str; 3] =
    ["syscall_tp_t", "syscall_trace_enter", "syscall_trace_exit"];

/// The prefix of every context struct's name; the event class follows.
pub(crate) const STRUCT_PREFIX: &str = "trace_event_raw_";
const TYPEDEF_PREFIX: &[u8] = b"btf_trace_";
const FUNC_PREFIX: &[u8] = b"__bpf_trace_";
/// Functions with a tracepoint's arguments, and their names: the first since Linux
/// 6.5.
const ARGUMENT_PREFIXES: [&[u8]; 2] = [b"__probestub_", b"__traceiter_"];

/// What the pass over the types finds, before what it points at is known.
#[derive(Default)]
pub(super) struct Collector {
    structs: Vec<(Arc<str>, TypeId)>,
    typedefs: Vec<(Box<str>, TypeId)>,
    funcs: Vec<(Box<str>, TypeId)>,
    syscall_structs: HashMap<&'static str, Vec<TypeId>>,
    argument_functions: Vec<(u32, TypeId)>,
}

impl Collector {
    /// Takes note of a type if it is about tracepoints.
    #[inline]
    pub(super) fn visit(&mut self, section: &Section, id: TypeId, kind: Kind, name: u32) {
        if matches!(kind, Kind::Struct | Kind::Typedef | Kind::Func) {
            self.visit_named(section, id, kind, name);
        }
    }

    fn visit_named(&mut self, section: &Section, id: TypeId, kind: Kind, name: u32) {
        let begin = section.text_from(name);
        // The kernel's identifiers are ASCII; no other can be asked for.
        let text = || std::str::from_utf8(section.name(name)?).ok();
        let without = |prefix: &[u8]| Some(text()?[prefix.len()..].into());
        match kind {
            Kind::Typedef if begin.starts_with(TYPEDEF_PREFIX) => {
                self.typedefs
                    .extend(without(TYPEDEF_PREFIX).map(|name| (name, id)));
            }
            // All that is looked for begins so, and little else.
            Kind::Func if begin.starts_with(b"__") => {
                if begin.starts_with(FUNC_PREFIX) {
                    self.funcs
                        .extend(without(FUNC_PREFIX).map(|name| (name, id)));
                } else if ARGUMENT_PREFIXES
                    .iter()
                    .any(|prefix| begin.starts_with(prefix))
                {
                    self.argument_functions.push((name, id));
                }
            }
            Kind::Struct if begin.starts_with(STRUCT_PREFIX.as_bytes()) => {
                self.structs.extend(text().map(|text| (text.into(), id)));
            }
            Kind::Struct if begin.starts_with(b"syscall_") => {
                let mut known = SYSCALL_STRUCTS.iter();
                if let Some(known) = known.find(|known| text() == Some(**known)) {
                    self.syscall_structs.entry(known).or_default().push(id);
                }
            }
            _ => {}
        }
    }

    /// Follows what was found to its prototypes. `base` is vmlinux's index, if
    /// this is a module.
    pub(super) fn finish(self, section: &Section, base: Option<&Index>) -> Index {
        let mut prototypes = Prototypes::new(section, base.map(|base| &base.prototypes));
        let target = |id| section.type_by_id(id)?.target();
        let funcs = prototypes.by_name(self.funcs, target);
        let events = prototypes.by_name(self.typedefs, |id| target(target(id)?));
        let mut classes: Vec<Class> = self
            .structs
            .into_iter()
            .map(|(struct_name, struct_id)| Class {
                prototype: funcs
                    .get(&struct_name[STRUCT_PREFIX.len()..])
                    .and_then(|func| func.prototype),
                struct_name,
                struct_id,
            })
            .collect();
        classes.sort_by(|a, b| (a.name(), a.struct_id).cmp(&(b.name(), b.struct_id)));
        let places = classes.iter().enumerate();
        let mut by_prototype: Vec<_> = places.map(|(at, class)| (class.prototype, at)).collect();
        by_prototype.sort();
        Index {
            classes,
            by_prototype,
            prototypes: prototypes.found,
            events,
            syscall_structs: self.syscall_structs,
            argument_functions: self.argument_functions,
        }
    }
}

/// Prototypes by how they are spelled.
type KnownPrototypes = HashMap<String, Prototype>;

/// Spells prototypes so that compatible ones are spelled the same.
///
/// An event's prototype need not be its class's to the letter: the compiler
/// only checks that the class's functions can be called by it, so that one may
/// say `uint64_t` where the other says `xfs_fsblock_t`, or an enum's name for
/// `unsigned int`. What is spelled the same here must never be less than what a
/// compiler takes, or the true class would be ruled out; more only leaves more
/// candidates.
struct Prototypes<'a> {
    section: &'a Section,
    /// vmlinux's, if this is a module: what is there is not `found` again.
    base: Option<&'a KnownPrototypes>,
    found: KnownPrototypes,
    /// Prototypes and types spelled already.
    prototypes: HashMap<TypeId, Option<Prototype>>,
    types: HashMap<TypeId, Arc<str>>,
}

/// A tracepoint has at most twelve arguments (`MAX_BPF_FUNC_ARGS`).
pub(super) const MAX_PARAMETERS: usize = 64;

impl<'a> Prototypes<'a> {
    fn new(section: &'a Section, base: Option<&'a KnownPrototypes>) -> Self {
        Self {
            section,
            base,
            found: HashMap::new(),
            prototypes: HashMap::new(),
            types: HashMap::new(),
        }
    }

    fn by_name(
        &mut self,
        named: Vec<(Box<str>, TypeId)>,
        prototype: impl Fn(TypeId) -> Option<TypeId>,
    ) -> HashMap<Box<str>, Event> {
        let mut found: HashMap<Box<str>, Event> = HashMap::with_capacity(named.len());
        for (name, typedef) in named {
            let prototype = prototype(typedef).and_then(|id| self.prototype(id));
            let new = Event { typedef, prototype };
            found
                .entry(name)
                .and_modify(|known| {
                    if known.prototype != new.prototype {
                        known.prototype = None;
                    }
                })
                .or_insert(new);
        }
        found
    }

    fn prototype(&mut self, id: TypeId) -> Option<Prototype> {
        if let Some(known) = self.prototypes.get(&id) {
            return *known;
        }
        let prototype = self.spell_prototype(id).map(|text| {
            let in_base = self.base.and_then(|base| base.get(&text));
            let next = self.base.map_or(0, HashMap::len) + self.found.len();
            match in_base {
                Some(known) => *known,
                None => *self.found.entry(text).or_insert(Prototype(next)),
            }
        });
        self.prototypes.insert(id, prototype);
        prototype
    }

    fn spell_prototype(&mut self, id: TypeId) -> Option<String> {
        let ty = self.section.type_by_id(id)?;
        let parameters = ty.parameters();
        if ty.kind != Kind::FuncProto || parameters.len() > MAX_PARAMETERS {
            return None;
        }
        let mut text = String::new();
        for parameter in parameters {
            // A parameter's own qualifiers are no matter to its caller.
            let id = parameter.type_id;
            let id = self.section.resolve(id).map_or(id, |(id, _)| id);
            text += &*self.spell(id, MAX_CHAIN)?;
            text.push(',');
        }
        Some(text)
    }

    fn spell(&mut self, id: TypeId, depth: usize) -> Option<Arc<str>> {
        if let Some(known) = self.types.get(&id) {
            return Some(Arc::clone(known));
        }
        let depth = depth.checked_sub(1)?;
        let spelled: Arc<str> = match self.section.type_by_id(id) {
            None => format!("type {id}").into(),
            Some(ty) => match (ty.kind, ty.name(), ty.target()) {
                (Kind::Typedef | Kind::TypeTag, _, Some(target)) => self.spell(target, depth)?,
                (Kind::Ptr, _, Some(target)) => format!("*{}", self.spell(target, depth)?).into(),
                (Kind::Const | Kind::Volatile | Kind::Restrict, _, Some(target)) => {
                    format!("const {}", self.spell(target, depth)?).into()
                }
                (Kind::Array, ..) => {
                    let (element, count) = ty.array()?;
                    format!("[{count}]{}", self.spell(element, depth)?).into()
                }
                // Defined, or only declared.
                (Kind::Struct | Kind::Union | Kind::Fwd, name, _) if !name.is_empty() => {
                    format!("struct {}", String::from_utf8_lossy(name)).into()
                }
                // An enum is an integer to a caller, of whichever name.
                (Kind::Enum | Kind::Enum64, ..) => format!("int{}", ty.size()).into(),
                (Kind::Int, name, _) if !matches!(name, b"_Bool" | b"bool") => {
                    format!("int{}", ty.size()).into()
                }
                (Kind::FuncProto, ..) => "function".into(),
                // Anything else is only itself.
                _ => format!("type {id}").into(),
            },
        };
        self.types.insert(id, Arc::clone(&spelled));
        Some(spelled)
    }
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

    /// The arguments of an event; `None` where BTF does not say them.
    pub(crate) fn prototype_of(&self, event: &str) -> Option<Prototype> {
        self.events.get(event)?.prototype
    }

    /// The classes of this name: none, one, or very rarely more.
    pub(crate) fn classes_named(&self, name: &str) -> &[Class] {
        let start = self.classes.partition_point(|class| class.name() < name);
        let rest = &self.classes[start..];
        let length = rest.iter().take_while(|class| class.name() == name).count();
        &rest[..length]
    }

    /// The classes whose events may take these arguments, those whose own are not
    /// known first, and each by name.
    pub(crate) fn classes_taking(
        &self,
        arguments: Option<Prototype>,
    ) -> impl Iterator<Item = &Class> {
        let first = |prototype| {
            self.by_prototype
                .partition_point(|(own, _)| *own < prototype)
        };
        let unknown = ..first(Some(Prototype(0)));
        // What BTF does not say rules nothing out.
        let same = match arguments {
            None => unknown.end..self.by_prototype.len(),
            Some(Prototype(one)) => first(arguments)..first(Some(Prototype(one + 1))),
        };
        let places = self.by_prototype[unknown]
            .iter()
            .chain(&self.by_prototype[same]);
        places.map(|(_, at)| &self.classes[*at])
    }

    /// The events that may take these arguments, in no order.
    pub(crate) fn events_taking(&self, arguments: Option<Prototype>) -> impl Iterator<Item = &str> {
        let may_take = move |event: &Event| {
            arguments.is_none() || event.prototype.is_none() || event.prototype == arguments
        };
        self.events
            .iter()
            .filter(move |(_, event)| may_take(event))
            .map(|(name, _)| &**name)
    }

    /// The functions that may name an event's arguments, in the order to ask
    /// them. Names are compared only here: few are ever asked for.
    pub(super) fn argument_functions(&self, section: &Section, event: &str) -> Vec<TypeId> {
        let of = |prefix: &'static [u8]| {
            let functions = self.argument_functions.iter();
            let functions = functions
                .filter(move |(name, _)| section.is_name(*name, [prefix, event.as_bytes()]));
            functions.map(|(_, id)| *id)
        };
        ARGUMENT_PREFIXES.into_iter().flat_map(of).collect()
    }

    /// The structs of one of [`SYSCALL_STRUCTS`]' names.
    pub(crate) fn syscall_structs(&self, name: &str) -> &[TypeId] {
        self.syscall_structs.get(name).map_or(&[], Vec::as_slice)
    }
}
