//! Programs of an object, and what they are attached to.

use crate::name::EventName;

/// The target of a program, by the name of its ELF section as libbpf reads it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Attachable {
    /// `tp/<category>/<event>`, `tracepoint/…`: a program of type
    /// `BPF_PROG_TYPE_TRACEPOINT`. `None` if the section names no event and the program
    /// attaches itself; then [`BpfObject::attach`](super::BpfObject::attach) can set
    /// the event.
    Tracepoint(Option<EventName>),
    /// `raw_tp/<tracepoint>`, `raw_tracepoint/…`: arguments as numbers.
    RawTracepoint(Option<String>),
    /// `tp_btf/<tracepoint>`: arguments with their types.
    TypedTracepoint(Option<String>),
    /// A program of another type, without a tracepoint's context.
    Other,
}

impl Attachable {
    /// Parses a section's name as libbpf does.
    ///
    /// ```
    /// use tracepoints::audit::Attachable;
    ///
    /// let name = "sched:sched_switch".parse()?;
    /// assert_eq!(Attachable::of_section("tp/sched/sched_switch"),
    ///     Attachable::Tracepoint(Some(name)));
    /// assert_eq!(Attachable::of_section("kprobe/do_exit"), Attachable::Other);
    /// # Ok::<(), tracepoints::name::NameError>(())
    /// ```
    pub fn of_section(section: &str) -> Self {
        // libbpf does not load these by default.
        let section = section.strip_prefix('?').unwrap_or(section);
        let (kind, rest) = match section.split_once('/') {
            Some((kind, rest)) => (kind, Some(rest)),
            None => (section, None),
        };
        let name = || rest.filter(|name| !name.is_empty()).map(str::to_owned);
        match kind {
            "tp" | "tracepoint" | "tp.s" | "tracepoint.s" => {
                let event = rest.and_then(|rest| rest.split_once('/'));
                let event = event.map(|(category, event)| format!("{category}:{event}"));
                Self::Tracepoint(event.and_then(|event| event.parse().ok()))
            }
            "raw_tp" | "raw_tracepoint" | "raw_tp.w" | "raw_tracepoint.w" | "raw_tp.s"
            | "raw_tracepoint.s" => Self::RawTracepoint(name()),
            "tp_btf" | "tp_btf.s" => Self::TypedTracepoint(name()),
            _ => Self::Other,
        }
    }

    /// Returns the event or tracepoint, if it is known.
    pub fn event(&self) -> Option<&str> {
        match self {
            Self::Tracepoint(event) => event.as_ref().map(EventName::as_str),
            Self::RawTracepoint(name) | Self::TypedTracepoint(name) => name.as_deref(),
            Self::Other => None,
        }
    }
}

/// A program of a [`BpfObject`](super::BpfObject).
#[derive(Clone, Debug)]
pub struct BpfProgram {
    pub(super) name: String,
    pub(super) section: String,
    pub(super) attachable: Attachable,
    pub(super) is_inferred: bool,
    pub(super) start: super::elf::CodeAddress,
}

impl BpfProgram {
    /// Returns the function's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the name of its ELF section. For a light skeleton's program it has no event
    /// (`tracepoint`) if the section is not known, and is empty for other types of programs.
    pub fn section(&self) -> &str {
        &self.section
    }

    /// Whether the section is inferred: that of a light skeleton's program, from the order of
    /// the strings in its BTF, if [`attach`](super::BpfObject::attach) has set no event.
    pub fn is_section_inferred(&self) -> bool {
        self.is_inferred
    }

    /// Returns the target it is attached to.
    pub fn attachable(&self) -> &Attachable {
        &self.attachable
    }
}
