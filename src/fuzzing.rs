//! Access to internal parsers, for the fuzz targets of `fuzz/` only.

use std::ops::Range;
use std::sync::Arc;

use crate::btf::{BtfError, Object};
use crate::context::RawTracepoint;
use crate::context::{self, Context, FormatReason, Homes, Silence};
use crate::files::Events;
use crate::format::Format;
use crate::layout::Layout;
use crate::machine::Machine;
use crate::name::EventName;

/// Reads the text of `available_events`.
pub fn available_events(text: &str) -> Events {
    Events::parse(text)
}

/// Finds a kernel's own symbols: the numbers of names and of places.
pub fn kallsyms(bytes: &[u8], machine: Machine) -> Option<(usize, usize)> {
    crate::image::kallsyms_count(bytes, machine)
}

/// One BTF object.
#[derive(Clone, Debug)]
pub struct BtfObject(Arc<Object>);

impl BtfObject {
    /// Reads an object; a module's has a base.
    ///
    /// # Errors
    ///
    /// [`BtfError`] if it is not sound.
    pub fn parse(name: &str, bytes: Vec<u8>, base: Option<&Self>) -> Result<Self, BtfError> {
        let base = base.map(|base| Arc::clone(&base.0));
        Object::parse(name.to_owned(), bytes, base).map(|object| Self(Arc::new(object)))
    }

    /// The ids of its own types.
    pub fn ids(&self) -> Range<u32> {
        let first = self.0.base().map_or(1, |base| base.section().end_id());
        first..self.0.section().end_id()
    }

    /// The tracepoints it defines, sorted.
    pub fn tracepoints(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.0.index().event_names().collect();
        names.sort_unstable();
        names
    }

    /// The struct of each event class, by its id.
    pub fn classes(&self) -> impl Iterator<Item = (&str, u32)> {
        let classes = self.0.index().classes_taking(None);
        classes.map(|class| (class.name(), class.struct_id))
    }

    /// The size of a type, in bytes.
    pub fn size_of(&self, id: u32) -> Option<u32> {
        self.0.section().size_of(id)
    }

    /// The layout of a struct or union.
    ///
    /// # Errors
    ///
    /// [`BtfError`] if its types cannot be followed.
    pub fn layout(&self, id: u32) -> Result<Layout, BtfError> {
        self.0.layout(id)
    }

    /// A type as C has it.
    ///
    /// # Errors
    ///
    /// [`BtfError`] if it cannot be followed.
    pub fn c_type(&self, id: u32) -> Result<String, BtfError> {
        Ok(self.0.c_type(id)?.declare("x"))
    }

    /// The tracepoint of this name.
    ///
    /// # Errors
    ///
    /// [`BtfError`] if its arguments cannot be followed.
    pub fn raw(&self, name: &str) -> Result<Option<RawTracepoint>, BtfError> {
        let arguments = self.0.arguments(name)?;
        Ok(arguments.map(|arguments| RawTracepoint::new(name, self.0.name(), arguments)))
    }

    /// The enumerators of a type.
    pub fn enumerators(&self, id: u32) -> Vec<(Vec<u8>, i64)> {
        let ty = self.0.section().type_by_id(id);
        let all = ty.into_iter().flat_map(|ty| ty.enumerators());
        all.map(|(name, value)| (name.to_vec(), value)).collect()
    }

    /// The context of an event at home in this object, or of a system call.
    pub fn context(&self, name: &EventName, format: &Format) -> Context {
        let format = Arc::new(format.clone());
        let home = Arc::clone(&self.0);
        if let Some(side) = format.syscall_side(name) {
            return context::resolve_syscall(name, side, &format, Some(home));
        }
        let homes = match self.0.index().has_event(name.event()) {
            true => Homes::Found(vec![home]),
            false => Homes::None(FormatReason::NoHome),
        };
        context::resolve(name, &format, homes, &Silence)
    }
}
