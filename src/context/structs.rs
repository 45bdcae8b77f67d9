//! The struct of a context, without the record whose fields it holds.

use std::sync::Arc;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::Evidence;
use super::syscall::SyscallStruct;
use crate::btf::{Object, STRUCT_PREFIX, TypeId};

/// The struct that a program attached to an event gets, and the evidence for it: a
/// [`Context`](super::Context) without its event's record. Returned by
/// [`Kernel::structs`](crate::Kernel::structs) and
/// [`Context::of_struct`](super::Context::of_struct).
#[derive(Clone, Debug)]
pub struct ContextStruct {
    pub(super) evidence: Evidence,
    pub(super) home: Option<Arc<Object>>,
    /// Whether `home` is certainly the object that has the struct: several objects may
    /// have a struct that fits.
    pub(super) is_home_known: bool,
    /// The struct and its class, if they are known. An ambiguous context has those of the
    /// first candidate, whose offsets all candidates share.
    pub(super) types: Option<ContextTypes>,
    pub(super) candidates: Vec<String>,
}

#[derive(Clone, Debug)]
pub(super) struct ContextTypes {
    /// `None` for the layout of `syscall_tp_t`, which programs cannot name.
    pub(super) struct_name: Option<Arc<str>>,
    /// Whether the struct belongs to a class, so that its name contains the class's.
    pub(super) has_class: bool,
    pub(super) layout_of: TypeId,
    /// `syscall_tp_t`, for `syscalls:*`.
    pub(super) syscall: Option<SyscallStruct>,
}

impl ContextStruct {
    /// Returns the evidence for the context.
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// Returns the struct's name in BTF and so in `vmlinux.h`: `trace_event_raw_<class>`,
    /// or `syscall_trace_enter` or `syscall_trace_exit`. `None` if the evidence is
    /// [`Ambiguous`](Evidence::Ambiguous) or [`Format`](Evidence::Format), and for a
    /// system call whose context no named struct describes.
    pub fn struct_name(&self) -> Option<&str> {
        match self.evidence {
            Evidence::Ambiguous => None,
            _ => self.types.as_ref()?.struct_name.as_deref(),
        }
    }

    /// Returns the event class; `None` without a [`struct_name`](Self::struct_name), and
    /// for `syscalls:*`.
    pub fn class(&self) -> Option<&str> {
        match self.evidence {
            Evidence::Ambiguous => None,
            _ => {
                let types = self.types.as_ref().filter(|types| types.has_class)?;
                types.struct_name.as_deref()?.strip_prefix(STRUCT_PREFIX)
            }
        }
    }

    /// Returns the classes that fit, sorted, if there are several: those of an
    /// [`Ambiguous`](Evidence::Ambiguous) context, or of an
    /// [`Inferred`](Evidence::Inferred) or [`Kernel`](Evidence::Kernel) one, whose class
    /// is among them. For other evidence the list is empty.
    pub fn candidates(&self) -> &[String] {
        &self.candidates
    }

    /// Returns the name of the object whose BTF has the struct: `vmlinux` or a module.
    /// `None` if no BTF type describes the context, or if several objects that define an
    /// event of this name have a struct that fits.
    pub fn home(&self) -> Option<&str> {
        let home = self.home.as_deref().filter(|_| self.is_home_known);
        home.map(Object::name)
    }

    /// Returns the struct's id in the BTF of its [`home`](Self::home); the event's
    /// `btf_ids` file has it as `tp_btf_id`. If no named struct describes a system call's
    /// context, this is the id of `syscall_tp_t`. `None` if the struct or its home is not
    /// known.
    pub fn type_id(&self) -> Option<u32> {
        match self.evidence {
            _ if !self.is_home_known => None,
            Evidence::Ambiguous => None,
            _ => Some(self.types.as_ref()?.layout_of),
        }
    }
}

/// Serializes as `{"struct", "class", "evidence", "home", "candidates"}`; unknown values
/// are null.
impl Serialize for ContextStruct {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut context = serializer.serialize_struct("Context", 5)?;
        context.serialize_field("struct", &self.struct_name())?;
        context.serialize_field("class", &self.class())?;
        context.serialize_field("evidence", self.evidence.as_str())?;
        context.serialize_field("home", &self.home())?;
        context.serialize_field("candidates", self.candidates())?;
        context.end()
    }
}
