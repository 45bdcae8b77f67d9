//! Reads the events of a kernel or a module from its tables.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::error::ImageError;
use super::eval::{self, EvalMap, FieldUpdates};
use super::format_text::{self, ImageField};
use super::memory::{ImageMemory, pointers};
use super::structs::Structs;
use super::symbols::Symbols;
use super::syscalls::{OpenFlags, Syscall};
use crate::format::Format;
use crate::name::EventName;

/// An event of an image.
#[derive(Clone, Debug)]
pub(crate) struct ImageEvent {
    pub(crate) name: EventName,
    /// The format file, without the line of the id.
    pub(crate) format: String,
    /// The class, found by the pointer to it; `None` for events without a tracepoint, and
    /// if the kernel's tables contradict each other.
    pub(crate) class: Option<String>,
    /// Whether `available_events` lists it.
    pub(crate) is_listed: bool,
}

/// The events of an image, and why others could not be read.
#[derive(Debug, Default)]
pub(crate) struct ImageEvents {
    pub(crate) events: Vec<ImageEvent>,
    /// The reason for each event that could not be read.
    pub(crate) unreadable: Vec<String>,
}

/// The address ranges of an object's tables.
#[derive(Clone, Debug, Default)]
pub(super) struct TableRanges {
    /// Pointers to `struct trace_event_call`.
    pub(super) events: Range<u64>,
    /// Pointers to `struct trace_eval_map`.
    pub(super) evals: Range<u64>,
    /// `struct bpf_raw_event_map`.
    pub(super) raw_map: Range<u64>,
}

/// Everything that is needed to read an object's events.
#[derive(Clone, Copy)]
pub(super) struct EventSource<'a> {
    pub(super) memory: &'a ImageMemory,
    pub(super) symbols: &'a Symbols,
    pub(super) structs: &'a Structs,
    pub(super) updates: FieldUpdates,
    pub(super) flags: Option<&'a OpenFlags>,
    /// The functions of system calls; `None` if they are not known.
    pub(super) called: Option<&'a HashSet<&'a str>>,
}

/// Limit on events; a kernel with all modules has 4,000.
const MAX_EVENTS: usize = 1 << 16;
/// Limit on fields of an event; a format file may have as many.
const MAX_FIELDS: usize = 4096;

/// Whether a field's type is `((const char *)~0UL)`: a function defines the fields.
fn is_function(ty: u64, memory: &ImageMemory) -> bool {
    match memory.machine().long_size() {
        4 => ty == u64::from(u32::MAX),
        _ => ty == u64::MAX,
    }
}

/// Reads all events.
pub(super) fn read(
    source: EventSource<'_>,
    tables: &TableRanges,
) -> Result<ImageEvents, ImageError> {
    let EventSource {
        memory, structs, ..
    } = source;
    let table = |table| ImageError::Table { table };
    let calls = pointers(memory, tables.events.clone(), MAX_EVENTS)
        .ok_or_else(|| table("table of events"))?;
    let maps = eval::maps(memory, structs, tables.evals.clone())
        .ok_or_else(|| table("table of enumerators"))?;
    let raw = raw_classes(source, tables.raw_map.clone());
    let mut found = ImageEvents::default();
    for address in calls {
        let reader = CallReader {
            source,
            maps: &maps,
            raw: &raw,
            address,
        };
        match reader.read() {
            Ok(Some(event)) => found.events.push(event),
            Ok(None) => {}
            Err(what) => found.unreadable.push(match reader.name() {
                Some((name, _)) => format!("{}: {what}", name.escape_debug()),
                None => format!("the event at {address:#x}: {what}"),
            }),
        }
    }
    Ok(found)
}

/// Returns the class of each tracepoint in `__bpf_raw_tp_map`, by the function that BPF
/// runs for the tracepoint.
fn raw_classes(source: EventSource<'_>, range: Range<u64>) -> HashMap<&str, &str> {
    let Some(places) = &source.structs.raw_map else {
        return HashMap::new();
    };
    let mut classes = HashMap::new();
    let count = range.end.saturating_sub(range.start) / places.stride;
    for index in 0..count.min(MAX_EVENTS as u64) {
        let class = || {
            let map = range.start.checked_add(index * places.stride)?;
            let tracepoint = places.tracepoint.read(source.memory, map)?;
            let function = places.function.read(source.memory, map)?;
            let name = source
                .structs
                .tracepoint_name
                .read(source.memory, tracepoint)?;
            let name = source.memory.text(name)?;
            Some((
                name,
                source.symbols.at_with_prefix(function, "__bpf_trace_")?,
            ))
        };
        classes.extend(class());
    }
    classes
}

/// Reads one `struct trace_event_call`.
struct CallReader<'a> {
    source: EventSource<'a>,
    maps: &'a [EvalMap],
    raw: &'a HashMap<&'a str, &'a str>,
    address: u64,
}

impl<'a> CallReader<'a> {
    /// Returns the event; `None` if the kernel has no such event. The error is the part
    /// that cannot be read.
    fn read(&self) -> Result<Option<ImageEvent>, &'static str> {
        let EventSource {
            memory, structs, ..
        } = self.source;
        let (name, has_tracepoint) = self.name().ok_or("no name")?;
        let class = self.place(structs.call_class).ok_or("no class")?;
        let system_at = structs
            .class_system
            .read(memory, class)
            .ok_or("no system")?;
        let system = memory.text(system_at).ok_or("no system")?;
        let event = EventName::of_directories(system, name).map_err(|_| "not a name")?;
        let syscall = self.syscall(system);
        if let Some(syscall) = &syscall {
            match self.source.called {
                None => return Err("the table of system calls is not found"),
                Some(called) if !called.contains(syscall.name()) => return Ok(None),
                Some(_) => {}
            }
        }
        let mut fields = self.fields(class, syscall.as_ref()).ok_or("no fields")?;
        let mut print_fmt = self.print_fmt(syscall.as_ref()).ok_or("no print fmt")?;
        for map in eval::of_system(self.maps, system_at) {
            if let Some(updated) = map.update_print_fmt(&print_fmt) {
                print_fmt = updated;
            }
            for field in &mut fields {
                if self.source.updates.evals
                    && let Some(updated) = map.update_type(&field.type_text)
                {
                    field.type_text = updated;
                }
            }
        }
        if self.source.updates.attributes {
            for field in &mut fields {
                field.type_text = eval::without_attributes(&field.type_text);
            }
        }
        let format = format_text::write(name, structs, &fields, &print_fmt);
        Format::parse(&format).map_err(|_| "not the format of an event")?;
        let register = structs.class_register.read(memory, class).unwrap_or(0);
        let flags = self.place(structs.call_flags).ok_or("no flags")?;
        Ok(Some(ImageEvent {
            class: self.class(class, has_tracepoint.then_some(name)),
            is_listed: register != 0 && flags & structs.is_unlisted == 0,
            name: event,
            format,
        }))
    }

    fn place(&self, place: super::structs::MemberBits) -> Option<u64> {
        place.read(self.source.memory, self.address)
    }

    /// Returns the event's name, and whether it is the name of the event's tracepoint.
    fn name(&self) -> Option<(&'a str, bool)> {
        let EventSource {
            memory, structs, ..
        } = self.source;
        let flags = self.place(structs.call_flags)?;
        if flags & structs.has_tracepoint == 0 {
            return Some((memory.text(self.place(structs.call_name)?)?, false));
        }
        let tracepoint = self.place(structs.call_tracepoint)?;
        let name = structs.tracepoint_name.read(memory, tracepoint)?;
        Some((memory.text(name)?, true))
    }

    fn syscall(&self, system: &str) -> Option<Syscall<'a>> {
        let places = self.source.structs.syscall.as_ref()?;
        if system != "syscalls" {
            return None;
        }
        let metadata = self.place(self.source.structs.call_data)?;
        Syscall::at(self.source.memory, places, metadata)
    }

    /// Reads the fields, as `event_define_fields()` does.
    fn fields(&self, class: u64, syscall: Option<&Syscall<'_>>) -> Option<Vec<ImageField>> {
        let EventSource {
            memory, structs, ..
        } = self.source;
        let mut at = structs.class_fields.read(memory, class)?;
        let mut fields = Vec::new();
        let mut offset = u64::from(structs.entry_size);
        // An event without a table has only the common fields.
        while at != 0 && fields.len() < MAX_FIELDS {
            let ty = structs.field_type.read(memory, at)?;
            if ty == 0 {
                return Some(fields);
            }
            if is_function(ty, memory) {
                let syscall = syscall.filter(|syscall| syscall.is_entered_by(self.address))?;
                fields.extend(syscall.fields(memory, structs.syscall.as_ref()?));
                return Some(fields);
            }
            let size = structs.field_size.read(memory, at)?;
            let align = structs.field_align.read(memory, at)?;
            offset = offset.checked_next_multiple_of(align.max(1))?;
            let length = match structs.field_length {
                Some(place) => place.read(memory, at)?,
                None => 0,
            };
            fields.push(ImageField {
                type_text: memory.text(ty)?.to_owned(),
                name: memory
                    .text(structs.field_name.read(memory, at)?)?
                    .to_owned(),
                offset,
                size,
                is_signed: structs.field_is_signed.read(memory, at)? != 0,
                length,
            });
            offset = offset.checked_add(size)?;
            at = at.checked_add(structs.field_stride)?;
        }
        (at == 0).then_some(fields)
    }

    fn print_fmt(&self, syscall: Option<&Syscall<'_>>) -> Option<String> {
        let EventSource {
            memory,
            structs,
            flags,
            ..
        } = self.source;
        match syscall {
            Some(syscall) if syscall.is_entered_by(self.address) => {
                syscall.print_fmt(memory, structs.syscall.as_ref()?, flags)
            }
            // The text is that of `set_syscall_print_fmt()`.
            Some(_) => Some("\"0x%lx\", REC->ret".to_owned()),
            None => {
                let text = self.place(structs.call_print_fmt)?;
                memory.text(text).map(str::to_owned)
            }
        }
    }

    /// Returns the class, as named by the class's own function, by its symbol, and by the
    /// function that BPF runs for the tracepoint. Those that are known must agree.
    fn class(&self, class: u64, tracepoint: Option<&str>) -> Option<String> {
        let EventSource {
            memory,
            symbols,
            structs,
            ..
        } = self.source;
        let tracepoint = tracepoint?;
        let probe = structs.class_probe.read(memory, class)?;
        let names = [
            symbols.at_with_prefix(probe, "trace_event_raw_event_"),
            symbols.at_with_prefix(class, "event_class_"),
            self.raw.get(tracepoint).copied(),
        ];
        let mut known = names.into_iter().flatten();
        let first = known.next()?;
        known.all(|name| name == first).then(|| first.to_owned())
    }
}
