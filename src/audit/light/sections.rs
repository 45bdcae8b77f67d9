//! The ELF sections of a light skeleton's programs, which say what they are attached to.
//!
//! `.BTF.ext` named each section by an offset into BTF's strings, and a program that has kept
//! its table of functions had a section there. So the section is one of the strings that name
//! a section of the program's type. If there is only one, it is the section.
//!
//! Of several, the order of the strings tells. For each function, LLVM
//! (`BTFDebug::beginFunctionImpl`) adds the names in its types, its own, and that of its
//! section, in this order; a string that is there already is not added again. So the string
//! after a function's name is that of its section, unless one of the two was there before.
//! That is an inference, made only if each program's name is followed by a section of its type,
//! each by another. Objects of a linker (`bpftool gen object`), which adds the names of all
//! sections last, fail this test.

use std::collections::BTreeSet;

use super::super::program::Attachable;
use crate::btf::Section;

/// Programs of a kind have sections of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LightKind {
    Tracepoint,
    Raw,
    /// `tp_btf`, whose target is known.
    Typed,
    Other,
}

/// A program whose section is asked for.
pub(super) struct LightProgram {
    pub(super) kind: LightKind,
    /// The function's name in BTF, if the program has kept its table of functions.
    pub(super) function: Option<String>,
    /// The target of a `tp_btf` program.
    pub(super) target: Option<String>,
}

/// A program's section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LightSection {
    pub(super) name: String,
    pub(super) is_inferred: bool,
}

impl LightKind {
    /// Whether a section of this name is one of the kind's.
    fn has(self, section: &str) -> bool {
        let kind = match Attachable::of_section(section) {
            Attachable::Tracepoint(_) => Self::Tracepoint,
            Attachable::RawTracepoint(_) => Self::Raw,
            Attachable::TypedTracepoint(_) => Self::Typed,
            Attachable::Other => Self::Other,
        };
        kind == self
    }

    /// Returns the section of a program that names no event.
    fn unnamed(self) -> &'static str {
        match self {
            Self::Tracepoint => "tracepoint",
            Self::Raw => "raw_tracepoint",
            Self::Typed => "tp_btf",
            Self::Other => "",
        }
    }
}

/// Returns the section of each program; one without an event where it is not known.
pub(super) fn sections(btf: &Section, programs: &[LightProgram]) -> Vec<LightSection> {
    let strings: Vec<&str> = btf
        .strings()
        .map(|string| str::from_utf8(string).unwrap_or_default())
        .collect();
    let in_order = in_order(&strings, programs);
    let only = |kind: LightKind| {
        let sections: BTreeSet<&str> = strings
            .iter()
            .copied()
            .filter(|string| kind.has(string))
            .collect();
        let mut sections = sections.into_iter();
        match (sections.next(), sections.next()) {
            (Some(section), None) => Some(section),
            _ => None,
        }
    };
    let only_tracepoint = only(LightKind::Tracepoint);
    let only_raw = only(LightKind::Raw);
    let sections = programs.iter().enumerate().map(|(index, program)| {
        let kind = program.kind;
        let known = match kind {
            LightKind::Tracepoint => only_tracepoint,
            LightKind::Raw => only_raw,
            LightKind::Typed | LightKind::Other => None,
        };
        let inferred = match (kind, &in_order) {
            (LightKind::Tracepoint | LightKind::Raw, Some(sections)) => sections.get(index),
            _ => None,
        };
        let (name, is_inferred) = match (&program.target, known, inferred) {
            (Some(target), ..) => (format!("tp_btf/{target}"), false),
            (None, Some(known), _) if program.function.is_some() => (known.to_owned(), false),
            (None, _, Some(inferred)) => ((*inferred).to_owned(), true),
            _ => (kind.unnamed().to_owned(), false),
        };
        LightSection { name, is_inferred }
    });
    sections.collect()
}

/// Returns for each program the string after its function's name, if all of them may be their
/// sections.
fn in_order<'a>(strings: &[&'a str], programs: &[LightProgram]) -> Option<Vec<&'a str>> {
    let mut taken = BTreeSet::new();
    let sections = programs.iter().map(|program| {
        let function = program.function.as_deref()?;
        let mut places = strings
            .iter()
            .enumerate()
            .filter(|(_, string)| **string == function);
        let ((place, _), None) = (places.next()?, places.next()) else {
            return None;
        };
        let section = *strings.get(place + 1)?;
        let is_of_target = match (&program.target, Attachable::of_section(section)) {
            (Some(target), Attachable::TypedTracepoint(name)) => name.as_ref() == Some(target),
            (Some(_), _) => false,
            (None, _) => true,
        };
        let fits = program.kind.has(section) && is_of_target && taken.insert(section);
        fits.then_some(section)
    });
    sections.collect()
}
