//! Compares a read with the kernel's context.

use super::interpret::{FoundRead, ReadBy, ReadFrom};
use super::own_struct::OwnMember;
use super::relocate::{CoreField, Relocated};
use super::shape::{EventShape, EventSlot};
use super::state::{ContextPointer, Named};
use super::verdict::Verdict;
use crate::btf::TypeId;
use crate::format::FieldKind;
use crate::machine::ByteOrder;

/// The judgement of a read.
#[derive(Clone, Debug)]
pub(super) struct Judgement {
    pub(super) verdict: Verdict,
    pub(super) path: Option<String>,
    pub(super) wants: Option<String>,
    pub(super) gets: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) mend: Option<String>,
}

impl Judgement {
    pub(super) fn of(verdict: Verdict, reason: impl Into<String>) -> Self {
        Self {
            reason: Some(reason.into()),
            ..Self::bare(verdict)
        }
    }

    pub(super) fn bare(verdict: Verdict) -> Self {
        Self {
            verdict,
            path: None,
            wants: None,
            gets: None,
            reason: None,
            mend: None,
        }
    }
}

/// The field that the source means by a read.
pub(super) struct Meant {
    pub(super) path: String,
    /// The member of the context's struct, and the offset from its start, in bytes.
    pub(super) member: String,
    pub(super) behind: i64,
    /// The offset and the size of the read on this kernel, in bytes.
    pub(super) at: i64,
    pub(super) size: u32,
    /// The member's size in the object's own struct, in bytes, if it is one value.
    pub(super) own_size: Option<u32>,
    own_signed: Option<bool>,
    /// Whether its name is the kernel's own, and not the source's invention.
    pub(super) is_kernels: bool,
    /// The object and id of the type in which the relocation found it.
    pub(super) found_in: Option<(String, TypeId)>,
    /// Whether that is the context's own struct.
    is_of_context: bool,
}

/// `PERF_MAX_TRACE_SIZE`: 2048 before Linux 5.13, 8192 since.
const MAX_TRACE_SIZE: i64 = 8192;

/// Reads of a program of type `BPF_PROG_TYPE_TRACEPOINT`.
pub(super) struct EventJudge<'a> {
    pub(super) shape: &'a EventShape<'a>,
    /// By the relocations' numbers.
    pub(super) relocated: &'a [Relocated],
    pub(super) fields: &'a [Option<CoreField>],
}

impl EventJudge<'_> {
    pub(super) fn judge(&self, read: &FoundRead) -> Judgement {
        let pointer = match read.from {
            ReadFrom::Context(pointer) => pointer,
            ReadFrom::ContextSomewhere => {
                return Judgement::of(
                    Verdict::Unknown,
                    "the offset in the context is not a constant",
                );
            }
            ReadFrom::Dynamic { slot, added } => return self.judge_dynamic(read, slot, added),
            ReadFrom::Argument(_) => return Judgement::bare(Verdict::Unknown),
        };
        let bytes = self.judge_bytes(read, pointer);
        match self.refusal(read, pointer) {
            Some((verdict, reason)) => Judgement {
                verdict,
                reason: Some(reason),
                ..bytes
            },
            None => bytes,
        }
    }

    /// Returns the rule by which the kernel refuses a load, if it does
    /// (`tp_prog_is_valid_access()` in `kernel/trace/bpf_trace.c`, and
    /// `perf_event_set_bpf_prog()` in `kernel/events/core.c`).
    fn refusal(&self, read: &FoundRead, pointer: ContextPointer) -> Option<(Verdict, String)> {
        let ReadBy::Load { moved } = read.by else {
            return None;
        };
        let refused = |reason: String| Some((Verdict::Refused, reason));
        let (offset, size) = (pointer.offset, i64::from(read.size?));
        let end = offset.saturating_add(size);
        // The verifier compares a negative offset as a large one. A program that reads
        // only up to the event's end is attached.
        if offset < 0 && end == 0 && offset % size == 0 {
            return None;
        }
        if offset < i64::from(self.shape.pointer_size) {
            return refused(format!(
                "the verifier refuses loads below byte {}",
                self.shape.pointer_size
            ));
        }
        if end > MAX_TRACE_SIZE {
            return refused(format!(
                "the verifier refuses loads from behind byte {MAX_TRACE_SIZE}"
            ));
        }
        if offset % size != 0 {
            return refused(format!(
                "the verifier refuses a load of {size} bytes at {offset}: it is not aligned"
            ));
        }
        if end > i64::from(self.shape.record_end) {
            return refused(format!(
                "the kernel does not attach a program that loads byte {} of an event that ends \
                 at {}",
                end - 1,
                self.shape.record_end
            ));
        }
        moved.then(|| {
            let reason = "many kernels' verifiers refuse loads through a context pointer that \
                          was added to";
            (Verdict::Unknown, reason.to_owned())
        })
    }

    fn judge_dynamic(&self, read: &FoundRead, slot: u16, added: i64) -> Judgement {
        let Some(slot) = self.shape.slots.get(usize::from(slot)) else {
            return Judgement::bare(Verdict::Unknown);
        };
        let content = format!("the content of {}", slot.names[0]);
        let judgement = |verdict, gets: &str, reason: Option<&str>| Judgement {
            path: Some(slot.names[0].clone()),
            wants: Some(content.clone()),
            gets: Some(gets.to_owned()),
            reason: reason.map(str::to_owned),
            ..Judgement::bare(verdict)
        };
        if let ReadBy::Load { .. } = read.by {
            let reason = "the verifier refuses loads from the context at an offset that is not a \
                          constant";
            return judgement(Verdict::Refused, &content, Some(reason));
        }
        let start = match slot.kind {
            FieldKind::RelLoc => i64::from(slot.end()),
            _ => 0,
        };
        match (added == start, slot.kind) {
            (true, _) => judgement(Verdict::Right, &content, None),
            (false, FieldKind::RelLoc) if added < start => {
                let reason = "a __rel_loc offset counts from the end of its own field";
                judgement(Verdict::Wrong, "bytes before it", Some(reason))
            }
            _ => {
                let reason = "it does not begin where the content does";
                judgement(Verdict::Unknown, "a part of it", Some(reason))
            }
        }
    }

    fn judge_bytes(&self, read: &FoundRead, pointer: ContextPointer) -> Judgement {
        let is_text = matches!(read.by, ReadBy::ProbeRead { is_text: true, .. });
        let meant = match self.meant(read, pointer) {
            Ok(meant) => meant,
            Err((verdict, reason)) => {
                let gets = match pointer.offset {
                    ..0 if verdict == Verdict::Wrong => "what is before the context".to_owned(),
                    offset => {
                        let size = if is_text { 1 } else { read.size.unwrap_or(1) };
                        self.shape.describe(offset, size)
                    }
                };
                return Judgement {
                    gets: Some(gets),
                    ..Judgement::of(verdict, reason)
                };
            }
        };
        let judged = meant.iter().map(|meant| self.judge_member(meant, is_text));
        // The first of equal ones.
        let worst = judged.reduce(|worst, next| match next.verdict > worst.verdict {
            true => next,
            false => worst,
        });
        let worst = worst.unwrap_or_else(|| Judgement::bare(Verdict::Right));
        match read.by {
            ReadBy::HandedOn { is_copy: false } if worst.verdict == Verdict::Right => Judgement {
                reason: Some("old kernels refuse to hand the context itself on".to_owned()),
                verdict: Verdict::Unknown,
                ..worst
            },
            _ => worst,
        }
    }

    /// Returns the fields that the source means by a read of the context; otherwise the
    /// verdict on it, whatever fields the kernel has, and the reason.
    pub(super) fn meant(
        &self,
        read: &FoundRead,
        pointer: ContextPointer,
    ) -> Result<Vec<Meant>, (Verdict, &'static str)> {
        let unknown = |reason| (Verdict::Unknown, reason);
        let is_text = matches!(read.by, ReadBy::ProbeRead { is_text: true, .. });
        let size = read.size.or(is_text.then_some(1));
        let size = size.ok_or(unknown("it is not known how many bytes are read"))?;
        if let ReadBy::ProbeRead { is_user: true, .. } = read.by {
            let reason = "a helper for the memory of processes reads the kernel's context";
            return Err(unknown(reason));
        }
        if pointer.offset < 0 {
            return Err((Verdict::Wrong, "it reads before the context's start"));
        }
        let mut meant = match pointer.named {
            Named::Several => Err("it adds the offsets of several fields"),
            Named::Field { relocation, behind } => {
                let meant = self.relocated_field(relocation, behind, pointer.offset, size);
                meant.map(|meant| vec![meant])
            }
            Named::Nothing => self.own_members(pointer, size, is_text),
        }
        .map_err(unknown)?;
        // A copy that is handed on begins with the pointer, which nobody means to read.
        if meant.len() > 1 {
            let pointer_size = i64::from(self.shape.pointer_size);
            meant.retain(|meant| meant.at >= pointer_size);
        }
        Ok(meant)
    }

    fn relocated_field(
        &self,
        relocation: u32,
        behind: i64,
        at: i64,
        size: u32,
    ) -> Result<Meant, &'static str> {
        let field = self
            .fields
            .get(relocation as usize)
            .and_then(Option::as_ref);
        let field = field.ok_or("its relocation names no field")?;
        let found_in = match self.relocated.get(relocation as usize) {
            Some(Relocated::Value(value)) => value.found_in.as_ref(),
            _ => None,
        };
        let is_of_context = match (found_in, &self.shape.of_type) {
            (Some((object, id)), Some((home, known))) => {
                !self.shape.is_syscall && object.name() == home && id == known
            }
            _ => false,
        };
        let offset = field.offset.ok_or("it reads bits")?;
        let (member, start) = &field.member;
        Ok(Meant {
            path: field.path.clone(),
            member: member.clone(),
            behind: (i64::from(offset) - i64::from(*start)).wrapping_add(behind),
            at,
            size,
            own_size: field.size,
            own_signed: None,
            is_kernels: true,
            found_in: found_in.map(|(object, id)| (object.name().to_owned(), *id)),
            is_of_context,
        })
    }

    /// Returns the members of the object's own struct that are read.
    fn own_members(
        &self,
        pointer: ContextPointer,
        size: u32,
        is_text: bool,
    ) -> Result<Vec<Meant>, &'static str> {
        let type_id = pointer
            .type_id
            .ok_or("the source does not say what is there")?;
        let read = if is_text { 1 } else { size };
        let members = self.shape.own.members(type_id, pointer.offset, read);
        let name = self.shape.own.name(type_id).unwrap_or_default();
        let is_kernels = name.starts_with("trace_event_raw_") || name.starts_with("syscall_trace_");
        if members.is_empty() {
            return Err("the source's struct has nothing there");
        }
        let meant = |member: OwnMember, at: i64, size: u32| Meant {
            path: format!("{name}.{}", member.name),
            behind: at - i64::from(member.offset),
            at,
            size,
            own_size: member.signed.map(|_| member.size),
            own_signed: member.signed,
            is_kernels,
            found_in: None,
            is_of_context: false,
            member: member.name,
        };
        let is_one = members.len() == 1;
        members
            .into_iter()
            .map(|member| {
                if member.is_bitfield {
                    return Err("it reads bits");
                }
                let (at, size) = match is_one {
                    true => (pointer.offset, size),
                    false => (i64::from(member.offset), member.size),
                };
                Ok(meant(member, at, size))
            })
            .collect()
    }

    fn judge_member(&self, meant: &Meant, is_text: bool) -> Judgement {
        let size = if is_text { 1 } else { meant.size };
        let gets = self.shape.describe(meant.at, size);
        let judgement = |verdict, reason: Option<String>| Judgement {
            verdict,
            path: Some(meant.path.clone()),
            wants: Some(meant.member.clone()),
            gets: Some(gets.clone()),
            reason,
            mend: None,
        };
        if meant.at < i64::from(self.shape.pointer_size) {
            let reason = "the context has no common fields there, but a pointer";
            return judgement(Verdict::Wrong, Some(reason.to_owned()));
        }
        let Some((slot, behind)) = self.shape.named(&meant.member, meant.behind) else {
            return match (meant.is_of_context, meant.is_kernels) {
                (true, _) => judgement(Verdict::Right, None),
                (_, true) => {
                    let reason = format!("the event has no field {}", meant.member);
                    judgement(Verdict::Wrong, Some(reason))
                }
                _ => {
                    let reason = format!(
                        "the event has no field {}, and the source's struct is its own",
                        meant.member
                    );
                    judgement(Verdict::Unknown, Some(reason))
                }
            };
        };
        let wants = match self.shape.is_syscall {
            true => slot.names.join(" or "),
            false => slot.names[0].clone(),
        };
        let found = Judgement {
            wants: Some(wants),
            mend: Some(self.mend(slot, behind)),
            ..judgement(Verdict::Wrong, None)
        };
        let expected = i64::from(slot.offset).saturating_add(behind);
        let end = meant.at.saturating_add(i64::from(size));
        let is_narrower = slot.is_scalar() && meant.own_size.is_some_and(|own| own < slot.size);
        if self.shape.byte_order == ByteOrder::Big && is_narrower && !meant.is_of_context {
            // The low bytes of a number come last.
            let own = meant.own_size.unwrap_or(0);
            let low = (i64::from(slot.end()) - i64::from(own)).saturating_add(behind);
            if meant.at != low {
                return Judgement {
                    reason: Some("it reads the high bytes of a wider number".to_owned()),
                    ..found
                };
            }
            return self.noted(meant, slot, found);
        }
        if meant.at != expected && !meant.is_of_context {
            return Judgement {
                reason: Some(format!(
                    "{} is at {expected}, not at {}",
                    slot.names[0], meant.at
                )),
                ..found
            };
        }
        if end > i64::from(slot.end()) {
            // Since Linux 6.6 the number is an int, and the bytes after it are not set.
            let is_number = self.shape.is_syscall && slot.names.iter().any(|name| name == "nr");
            return Judgement {
                verdict: match is_number {
                    true => Verdict::Unknown,
                    false => Verdict::Wrong,
                },
                reason: Some(format!(
                    "{size} bytes are read, and {} has {}",
                    slot.names[0], slot.size
                )),
                ..found
            };
        }
        self.noted(meant, slot, found)
    }

    /// Returns a right read, with a note about its type if there is one.
    fn noted(&self, meant: &Meant, slot: &EventSlot, found: Judgement) -> Judgement {
        let is_narrower = slot.is_scalar() && meant.own_size.is_some_and(|own| own < slot.size);
        let differs_in_sign = slot.kind == FieldKind::Scalar
            && !self.shape.is_syscall
            && matches!((meant.own_signed, slot.signed), (Some(a), Some(b)) if a != b);
        let note = match (is_narrower && !self.shape.is_syscall, differs_in_sign) {
            (true, _) => Some(format!(
                "the source's type is narrower: {}",
                slot.declaration
            )),
            (_, true) => Some(format!(
                "the source's type has another sign: {}",
                slot.declaration
            )),
            _ => None,
        };
        Judgement {
            verdict: Verdict::Right,
            reason: note,
            mend: None,
            ..found
        }
    }

    fn mend(&self, slot: &EventSlot, behind: i64) -> String {
        let offset = i64::from(slot.offset).saturating_add(behind);
        match &self.shape.struct_name {
            Some(name) => format!("struct {name} has {} at {offset}", slot.names[0]),
            None => format!("{} is at {offset}", slot.names[0]),
        }
    }
}
