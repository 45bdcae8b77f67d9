//! What a difference means for each kind of user: a program that was made for the first
//! kernel and runs on the second.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::event::{Side, is_retyped};
use crate::btf::{BtfError, Object};
use crate::context::RawTracepoint;
use crate::emit;
use crate::format::Field;
use crate::layout::Slot;

/// The result for a user on the second kernel, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum UserVerdict {
    /// It reads what it is meant to read.
    Safe,
    /// The result is not known, since a struct or the arguments are not known.
    Unknown,
    /// It loads, but a type differs in sign, size or kind: it has to be compiled, or
    /// written, for the second kernel.
    Recompile,
    /// It does not load or attach, or does not find a field.
    Refused,
    /// It loads and reads other bytes than it is meant to: worse than a refusal, which is
    /// noticed.
    WrongValue,
    /// There is no such event.
    Gone,
}

impl UserVerdict {
    /// Returns the verdict in the words of JSON and tables: `safe`, `unknown`, `recompile`,
    /// `wrong value`, `refused`, `gone`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Safe => "safe",
            Self::Unknown => "unknown",
            Self::Recompile => "recompile",
            Self::WrongValue => "wrong value",
            Self::Refused => "refused",
            Self::Gone => "gone",
        }
    }
}

impl fmt::Display for UserVerdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.as_str())
    }
}

impl Serialize for UserVerdict {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A verdict and its reason.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub struct Judged {
    /// The worst verdict on anything that the user reads.
    pub verdict: UserVerdict,
    /// The reason, a sentence without a full stop; `None` if the verdict is `safe`.
    pub reason: Option<String>,
}

impl Judged {
    fn safe() -> Self {
        Self {
            verdict: UserVerdict::Safe,
            reason: None,
        }
    }

    fn of(verdict: UserVerdict, reason: impl Into<String>) -> Self {
        Self {
            verdict,
            reason: Some(reason.into()),
        }
    }

    pub(super) fn gone() -> Self {
        Self::of(UserVerdict::Gone, "there is no such event")
    }

    /// Returns the worse of two; the first if they are equal.
    fn or_worse(self, other: Self) -> Self {
        match other.verdict > self.verdict {
            true => other,
            false => self,
        }
    }
}

/// The verdicts for each kind of user.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub struct UserVerdicts {
    /// BPF programs that libbpf relocates by the names of structs and members (CO-RE).
    pub core: Judged,
    /// BPF programs with the first kernel's offsets in them.
    pub fixed_offsets: Judged,
    /// Parsers of format files, which find fields by name: perf, trace-cmd.
    pub format_parsers: Judged,
    /// Programs attached to the raw tracepoint; `None` if the first kernel has none.
    pub raw_tp: Option<Judged>,
}

impl UserVerdicts {
    pub(super) fn gone(has_raw: bool) -> Self {
        Self {
            core: Judged::gone(),
            fixed_offsets: Judged::gone(),
            format_parsers: Judged::gone(),
            raw_tp: has_raw.then(Judged::gone),
        }
    }

    pub(super) fn of(
        here: &Side<'_>,
        there: &Side<'_>,
        objects: &[Arc<Object>],
    ) -> Result<Self, BtfError> {
        Ok(Self {
            core: core(here, there, objects)?,
            fixed_offsets: fixed_offsets(here, there),
            format_parsers: format_parsers(here, there),
            raw_tp: here
                .raw
                .as_ref()
                .map(|raw| raw_arguments(raw, there.raw.as_ref())),
        })
    }

    /// Whether all verdicts are `safe`.
    pub fn are_safe(&self) -> bool {
        let all = [&self.core, &self.fixed_offsets, &self.format_parsers];
        let mut all = all.into_iter().chain(&self.raw_tp);
        all.all(|judged| judged.verdict == UserVerdict::Safe)
    }
}

/// Returns the list after a word for one thing or another for several.
fn about(list: &[&str], one: &str, several: &str) -> String {
    let word = if list.len() == 1 { one } else { several };
    format!("{word} {}", list.join(", "))
}

/// Judges CO-RE programs. libbpf takes the struct of the first kernel's name if the second
/// has it, whatever struct the event has there, and finds members by name. The rules are
/// those of [`History::portability`](crate::emit::History::portability).
fn core(here: &Side<'_>, there: &Side<'_>, objects: &[Arc<Object>]) -> Result<Judged, BtfError> {
    let Some(struct_name) = here.context.struct_name() else {
        return Ok(match here.context.candidates() {
            [] => Judged::of(
                UserVerdict::Unknown,
                "the first kernel's struct is not known",
            ),
            candidates => Judged::of(
                UserVerdict::Unknown,
                format!(
                    "the first kernel's struct is one of {}",
                    candidates.join(", ")
                ),
            ),
        });
    };
    let is_syscall = emit::is_syscall(here.context);
    let Some(found) = emit::found_by_libbpf(objects, struct_name)? else {
        return Ok(match there.context.struct_name() {
            _ if objects.is_empty() => Judged::of(UserVerdict::Refused, "there is no BTF"),
            Some(other) => Judged::of(
                UserVerdict::Refused,
                format!("the struct is {other}, and there is no {struct_name}"),
            ),
            None => Judged::of(UserVerdict::Refused, format!("there is no {struct_name}")),
        });
    };
    let own: Vec<&Slot> = emit::members(&here.layout, is_syscall).collect();
    let mut judged = Judged::safe();
    let (mut wrong, mut missing, mut retyped) = (Vec::new(), Vec::new(), Vec::new());
    let misread = emit::misread_of(&found, &there.layout, is_syscall);
    for slot in own {
        let name = slot.name();
        match found.slot(name) {
            None => missing.push(name),
            Some(_) if misread.iter().any(|known| known == name) => wrong.push(name),
            Some(other) if is_retyped_for_libbpf(slot, other) => retyped.push(name),
            Some(_) => {}
        }
    }
    if !retyped.is_empty() {
        let which = about(
            &retyped,
            "another type, size or sign of",
            "other types, sizes or signs of",
        );
        judged = judged.or_worse(Judged::of(UserVerdict::Recompile, which));
    }
    if !missing.is_empty() {
        let which = format!("{struct_name} has no {}", missing.join(", "));
        judged = judged.or_worse(Judged::of(UserVerdict::Refused, which));
    }
    if !wrong.is_empty() {
        let struct_there = match there.context.struct_name() {
            Some(other) => format!("the struct is {other}"),
            None => "the event has another struct".to_owned(),
        };
        let which = format!(
            "{struct_there}, and libbpf finds {struct_name}, with other bytes as {}",
            wrong.join(", ")
        );
        judged = judged.or_worse(Judged::of(UserVerdict::WrongValue, which));
    }
    Ok(judged)
}

/// Whether a member's type differs for libbpf, which adapts loads of unsigned integers to
/// another size (`bpf_core_patch_insn()`, `tools/lib/bpf/relo_core.c`), and no others.
fn is_retyped_for_libbpf(here: &Slot, there: &Slot) -> bool {
    let (here, there) = (emit::kind(here), emit::kind(there));
    let is_unsigned = |kind: &str| kind.starts_with(['u', 'b']) && !kind.ends_with('b');
    here != there && !(is_unsigned(&here) && is_unsigned(&there))
}

/// Judges programs with fixed offsets, which read as many bytes as the field had, where it
/// was.
fn fixed_offsets(here: &Side<'_>, there: &Side<'_>) -> Judged {
    let mut judged = Judged::safe();
    let (mut wrong, mut behind, mut retyped) = (Vec::new(), Vec::new(), Vec::new());
    for (field, place) in here.placed() {
        let found = there
            .placed()
            .find(|(other, _)| other.name() == field.name());
        match found {
            Some((other, there_at))
                if (place.bit_offset(), place.size())
                    == (there_at.bit_offset(), there_at.size()) =>
            {
                if is_retyped(field, other) {
                    retyped.push(field.name());
                }
            }
            _ if place.end() > there.record_end => behind.push(field.name()),
            _ => wrong.push(field.name()),
        }
    }
    if !retyped.is_empty() {
        let which = about(&retyped, "another type of", "other types of");
        judged = judged.or_worse(Judged::of(UserVerdict::Recompile, which));
    }
    if !behind.is_empty() {
        let which = format!("the event ends before {}", behind.join(", "));
        judged = judged.or_worse(Judged::of(UserVerdict::Refused, which));
    }
    if !wrong.is_empty() {
        let which = format!("other bytes as {}", wrong.join(", "));
        judged = judged.or_worse(Judged::of(UserVerdict::WrongValue, which));
    }
    judged
}

/// Judges parsers of format files, which find each field by name, wherever it is and
/// however long.
fn format_parsers(here: &Side<'_>, there: &Side<'_>) -> Judged {
    let names = |side: &Side<'_>| -> Vec<String> {
        let fields = side.tracepoint.format().fields().iter();
        fields.map(|field| field.name().to_owned()).collect()
    };
    let known = names(there);
    let own = names(here);
    let missing: Vec<&str> = own
        .iter()
        .filter(|name| !known.contains(name))
        .map(String::as_str)
        .collect();
    match missing.is_empty() {
        true => Judged::safe(),
        false => Judged::of(
            UserVerdict::Refused,
            about(&missing, "there is no field", "there are no fields"),
        ),
    }
}

/// Judges raw programs, which get arguments by position. The kernel does not attach one
/// that reads more arguments than there are (`bpf_probe_register()`,
/// `kernel/trace/bpf_trace.c`).
pub(super) fn raw_arguments(here: &RawTracepoint, there: Option<&RawTracepoint>) -> Judged {
    let Some(there) = there else {
        return Judged::of(UserVerdict::Unknown, "the arguments there are not known");
    };
    let (own, others) = (here.arguments(), there.arguments());
    let mut judged = Judged::safe();
    for (index, argument) in own.iter().enumerate() {
        let Some(other) = others.get(index) else {
            let reason = format!("there are {} arguments", others.len());
            return judged.or_worse(Judged::of(UserVerdict::Refused, reason));
        };
        let [old, new] = [argument, other].map(|one| unqualified(one.c_type()));
        let has_moved = argument.name().is_some_and(|name| {
            let mut elsewhere = others.iter().filter_map(|one| one.name());
            other.name() != Some(name) && elsewhere.any(|known| known == name)
        });
        let reason = || {
            format!(
                "argument {index} is {} and not {}",
                other.declaration(),
                argument.declaration()
            )
        };
        let is_pointer = |ty: &str| ty.contains('*');
        let verdict = match () {
            () if has_moved => UserVerdict::WrongValue,
            () if old == new => continue,
            () if is_pointer(&old) || is_pointer(&new) => UserVerdict::WrongValue,
            () => UserVerdict::Recompile,
        };
        judged = judged.or_worse(Judged::of(verdict, reason()));
    }
    judged
}

/// Returns a type without `const` and `volatile`, which do not change what is read.
fn unqualified(ty: &str) -> String {
    let words = ty.split(' ');
    let words = words.filter(|word| !matches!(*word, "const" | "volatile"));
    words.collect::<Vec<_>>().join(" ")
}

/// A field that the context has, with its place in it.
pub(super) type PlacedField<'a> = (&'a Field, &'a Slot);
