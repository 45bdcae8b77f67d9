//! Which program a section of an object is: what it is attached to.

use crate::name::EventName;

/// What a program of an object is attached to, by the name of its ELF section as libbpf
/// reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Attachable {
    /// `tp/<category>/<event>`, `tracepoint/…`: a program of type
    /// `BPF_PROG_TYPE_TRACEPOINT`. `None` where the section says no event, and the
    /// program attaches itself by hand: [`BpfObject::attach`](super::BpfObject::attach)
    /// says to which.
    Tracepoint(Option<EventName>),
    /// `raw_tp/<tracepoint>`, `raw_tracepoint/…`: arguments as numbers.
    RawTracepoint(Option<String>),
    /// `tp_btf/<tracepoint>`: arguments with their types.
    TypedTracepoint(Option<String>),
    /// A program of another type: it has no tracepoint's context.
    Other,
}

impl Attachable {
    /// What libbpf makes of a section's name.
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
        // Not loaded unless asked for.
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

    /// The event or tracepoint, where it is known.
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
    pub(super) start: super::elf::CodeAddress,
}

impl BpfProgram {
    /// The function's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of the ELF section it is in.
    pub fn section(&self) -> &str {
        &self.section
    }

    /// What it is attached to.
    pub fn attachable(&self) -> &Attachable {
        &self.attachable
    }
}
