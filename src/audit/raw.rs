//! Programs of raw tracepoints: the arguments they read, and as which types.

use super::core_types::essential;
use super::interpret::{FoundRead, ReadBy, ReadFrom};
use super::judge::Judgement;
use super::nullable::{Listed, NullList};
use super::own_struct::OwnStruct;
use super::relocate::{CoreField, Relocated};
use super::state::{ArgumentPointer, Named};
use super::verdict::Verdict;
use crate::btf::{Kind, Object, TypeId};
use crate::context::RawTracepoint;

/// The arguments that a raw program gets.
pub(super) struct RawJudge<'a> {
    pub(super) raw: &'a RawTracepoint,
    pub(super) home: &'a Object,
    /// Whether it gets its arguments with their types: `tp_btf`.
    pub(super) is_typed: bool,
    /// The verifier's list of arguments that may be NULL.
    pub(super) list: NullList,
    pub(super) own: OwnStruct<'a>,
    pub(super) relocated: &'a [Relocated],
    pub(super) fields: &'a [Option<CoreField>],
}

/// `MAX_BPF_FUNC_ARGS`.
const MAX_ARGUMENTS: i64 = 12;

impl RawJudge<'_> {
    pub(super) fn judge(&self, read: &FoundRead) -> Option<Judgement> {
        Some(match read.from {
            ReadFrom::Context(pointer) => self.judge_context(read, pointer.offset),
            ReadFrom::ContextSomewhere => Judgement::of(
                Verdict::Unknown,
                "the offset in the context is not a constant",
            ),
            ReadFrom::Argument(argument) => return self.judge_argument(read, argument),
            ReadFrom::Dynamic { .. } => return None,
        })
    }

    fn judge_context(&self, read: &FoundRead, offset: i64) -> Judgement {
        let arguments = self.raw.arguments();
        let (index, count) = (offset.div_euclid(8), arguments.len() as i64);
        let declaration = usize::try_from(index)
            .ok()
            .and_then(|index| arguments.get(index))
            .map(|argument| argument.declaration().to_owned());
        let gets = declaration.unwrap_or_else(|| "what is behind the arguments".to_owned());
        let judgement = |verdict, reason: Option<String>| Judgement {
            wants: Some(format!("argument {index}")),
            gets: Some(gets.clone()),
            reason,
            ..Judgement::bare(verdict)
        };
        let Some(size) = read.size else {
            let reason = "it is not known how many bytes are read".to_owned();
            return judgement(Verdict::Unknown, Some(reason));
        };
        let end = offset.saturating_add(i64::from(size));
        let is_load = matches!(read.by, ReadBy::Load { .. });
        let has = format!("{} has {count} arguments", self.raw.name());
        if end > count * 8 || offset < 0 {
            let (verdict, reason) = match is_load {
                true if end > MAX_ARGUMENTS * 8 || offset < 0 => (
                    Verdict::Refused,
                    "the verifier knows of 12 arguments".to_owned(),
                ),
                true => (Verdict::Refused, has),
                false => (Verdict::Wrong, has),
            };
            return judgement(verdict, Some(reason));
        }
        let unit = if self.is_typed {
            8
        } else {
            i64::from(size.max(1))
        };
        if is_load && offset % unit != 0 {
            let reason = format!("the verifier refuses a load at {offset}: it is not aligned");
            return judgement(Verdict::Refused, Some(reason));
        }
        if let ReadBy::Load { moved: true } = read.by {
            let reason = "many kernels' verifiers refuse loads through a context pointer that \
                          was added to";
            return judgement(Verdict::Unknown, Some(reason.to_owned()));
        }
        judgement(Verdict::Right, None)
    }

    /// Judges a read through an argument; `None` if nothing is known about it.
    fn judge_argument(&self, read: &FoundRead, argument: ArgumentPointer) -> Option<Judgement> {
        let known = self.raw.arguments().get(argument.index as usize)?;
        let judgement = |verdict, path: Option<&str>, reason: String| Judgement {
            path: path.map(str::to_owned),
            wants: Some(format!("argument {}", argument.index)),
            gets: Some(known.declaration().to_owned()),
            reason: Some(reason),
            ..Judgement::bare(verdict)
        };
        let is_nullable = known
            .name()
            .is_some_and(|name| name.ends_with("__nullable"));
        let is_load = matches!(read.by, ReadBy::Load { .. });
        if self.is_typed && is_load && is_nullable && !argument.is_checked {
            let reason = "the argument may be NULL, and the verifier wants it compared with that";
            return Some(judgement(Verdict::Refused, None, reason.to_owned()));
        }
        if self.is_typed && is_load && !argument.is_checked {
            let is_of_module = self.home.base().is_some();
            let name = self.raw.name();
            let (verdict, reason) = match self.list.says(name, is_of_module, argument.index) {
                Listed::Never => (Verdict::Right, ""),
                Listed::MayBeNull => (
                    Verdict::Refused,
                    "the argument may be NULL by the verifier's list (raw_tp_null_args), and the \
                     verifier wants it compared with that",
                ),
                Listed::MayBeNullElsewhere => (
                    Verdict::Unknown,
                    "the argument may be NULL by the list of Linux 6.18's verifier \
                     (raw_tp_null_args), and this kernel has a list that may differ: compare it \
                     with NULL first",
                ),
                Listed::OfModule => (
                    Verdict::Unknown,
                    "the verifier takes arguments of modules' tracepoints for such as may be \
                     NULL, unless its list says otherwise: compare it with NULL first",
                ),
            };
            if verdict != Verdict::Right {
                return Some(judgement(verdict, None, reason.to_owned()));
            }
        }
        let Named::Field {
            relocation,
            behind: 0,
        } = argument.named
        else {
            return None;
        };
        let field = self.fields.get(relocation as usize)?.as_ref()?;
        let Relocated::Value(value) = self.relocated.get(relocation as usize)? else {
            return None;
        };
        if i64::try_from(value.value) != Ok(argument.offset) {
            return None;
        }
        let wanted = self.own.name(field.root)?;
        let wanted = essential(wanted.as_bytes());
        let (object, root) = value.found_in.as_ref()?;
        let pointee = self.pointee(argument.index)?;
        let section = self.home.section();
        let name = section.type_by_id(pointee)?.name();
        if name.is_empty() || name == wanted {
            return None;
        }
        // A struct may be cast to one that it begins with, or that begins with it.
        let is_kin = begins_with(self.home, pointee, wanted) || begins_with(object, *root, name);
        if is_kin {
            return None;
        }
        let reason = format!(
            "the argument is a {}, read as a {}",
            String::from_utf8_lossy(name),
            String::from_utf8_lossy(wanted)
        );
        Some(judgement(Verdict::Wrong, Some(&field.path), reason))
    }

    /// Returns the struct that an argument points at.
    fn pointee(&self, index: u32) -> Option<TypeId> {
        let section = self.home.section();
        let prototype = self
            .home
            .index()
            .event_prototype(section, self.raw.name())?;
        let prototype = section.type_by_id(prototype)?;
        // The first parameter is the tracepoint's own data.
        let parameter = prototype.parameters().nth(index as usize + 1)?;
        let (_, pointer) = section.resolve(parameter.type_id)?;
        if pointer.kind != Kind::Ptr {
            return None;
        }
        let (id, pointee) = section.resolve(pointer.target()?)?;
        matches!(pointee.kind, Kind::Struct | Kind::Union).then_some(id)
    }
}

/// Whether a struct begins with one of this name, at any depth.
fn begins_with(object: &Object, id: TypeId, name: &[u8]) -> bool {
    const MAX_DEPTH: usize = 16;
    let section = object.section();
    let mut id = id;
    for _ in 0..MAX_DEPTH {
        let Some((_, ty)) = section.resolve(id) else {
            return false;
        };
        if ty.name() == name {
            return true;
        }
        let is_union = ty.kind == Kind::Union;
        let mut members = ty.members().filter(|member| member.bit_offset == 0);
        if is_union
            && members.any(|member| {
                let member = section.resolve(member.type_id);
                member.is_some_and(|(_, ty)| ty.name() == name)
            })
        {
            return true;
        }
        match ty.members().next() {
            Some(first) => id = first.type_id,
            None => return false,
        }
    }
    false
}
