//! Records of probes in the kernel's own words.

use std::collections::HashMap;
use std::fmt::Write;

use super::constants;
use super::error::ProbeError;
use super::record::{FieldValue, ProbeRecord};
use crate::format::{Field, FieldKind, Format};
use crate::kernel::Tracepoint;
use crate::machine::Machine;
use crate::name::{EventName, SYSCALL_NUMBER, SyscallSide};
use crate::record::{Record, Value};
use crate::text::{Addresses, Renderer};

/// Prints records of probes as the kernel's `trace` file prints events: flags and
/// enums by their names, functions by theirs.
///
/// It takes a record with all fields; one that lacks some is printed like any
/// [`ProbeRecord`]. `syscalls:*` are printed as calls: `sys_close(fd: 3)`, strings in
/// place of their addresses, and flags of common ones by the names of their manual pages:
/// `flags: O_WRONLY|O_CREAT`.
#[derive(Debug)]
pub struct PrettyPrinter {
    events: HashMap<EventName, (Format, Renderer)>,
    addresses: Addresses,
}

impl PrettyPrinter {
    /// For records of these events.
    ///
    /// # Errors
    ///
    /// [`ProbeError::PrintFmt`] if a print fmt is not understood, and
    /// [`ProbeError::Kernel`].
    pub fn new<'a>(
        tracepoints: impl IntoIterator<Item = &'a Tracepoint>,
    ) -> Result<Self, ProbeError> {
        let mut events = HashMap::new();
        let mut addresses = None;
        for tracepoint in tracepoints {
            let kernel = tracepoint.kernel();
            let (name, format) = (tracepoint.name(), tracepoint.format());
            let renderer = kernel
                .renderer(name, format, Machine::NATIVE)
                .map_err(|source| ProbeError::PrintFmt {
                    event: name.clone(),
                    source,
                })?;
            if addresses.is_none() {
                addresses = Some(kernel.addresses()?);
            }
            events.insert(name.clone(), (format.clone(), renderer));
        }
        Ok(Self {
            events,
            addresses: addresses.unwrap_or_default(),
        })
    }

    /// Appends a record's line.
    pub fn print(&self, record: &ProbeRecord, out: &mut String) {
        let known = self.events.get(record.event());
        let whole = known.and_then(|(format, renderer)| {
            let bytes = as_recorded(record, format)?;
            Some((format, renderer, bytes))
        });
        // Writing to a String cannot fail.
        let _ = write!(out, "{}", record.context());
        match whole {
            Some((format, ..)) if format.syscall_side(record.event()).is_some() => {
                print_call(record, out);
            }
            Some((format, renderer, bytes)) => {
                let _ = write!(out, "{}: ", record.event().event());
                let whole = Record::new(format, &bytes, Machine::NATIVE);
                renderer.render(&whole, &self.addresses, out);
                let is_cut = |(_, value)| matches!(value, FieldValue::Cut(_));
                if record.fields().any(is_cut) {
                    out.push('…');
                }
            }
            None => {
                let _ = write!(out, "{}:{}", record.event(), record.values());
                // The result is among them.
                return;
            }
        }
        if let Some(returned) = record.returned() {
            let _ = write!(out, " = {}", returned.value);
        }
    }
}

/// `sys_close(fd: 3)`, `sys_close -> 0x0`.
fn print_call(record: &ProbeRecord, out: &mut String) {
    let Some((side, call)) = SyscallSide::and_call(record.event()) else {
        return;
    };
    let fields = record.fields().filter(|(name, _)| *name != SYSCALL_NUMBER);
    if side == SyscallSide::Exit {
        let _ = write!(out, "sys_{call} ->");
        for (_, value) in fields {
            let _ = match value.value().and_then(|value| value.integer()) {
                Some(value) => write!(out, " {value:#x}"),
                None => write!(out, " {value}"),
            };
        }
        return;
    }
    let _ = write!(out, "sys_{call}(");
    for (index, (name, value)) in fields.enumerate() {
        let comma = if index > 0 { ", " } else { "" };
        let number = value.value().and_then(|value| value.integer());
        let named = number.and_then(|number| constants::of_argument(call, name, number as u64));
        if let Some(named) = named {
            let _ = write!(out, "{comma}{name}: {named}");
            continue;
        }
        let _ = match value {
            FieldValue::Whole(Value::Unsigned(value @ 10..) | Value::Pointer(value @ 10..)) => {
                write!(out, "{comma}{name}: {value:#x}")
            }
            FieldValue::Whole(Value::Signed(value @ 10..)) => {
                write!(out, "{comma}{name}: {value:#x}")
            }
            FieldValue::Whole(Value::Pointer(value)) => write!(out, "{comma}{name}: {value}"),
            value => write!(out, "{comma}{name}: {value}"),
        };
    }
    out.push(')');
}

/// The bytes ftrace would have written; `None` if fields are missing.
fn as_recorded(record: &ProbeRecord, format: &Format) -> Option<Vec<u8>> {
    let all = format.common_fields().iter().chain(format.fields());
    let end = all.map(|field| field.offset().checked_add(field.size()));
    let end = end.collect::<Option<Vec<u32>>>()?.into_iter().max()?;
    let mut bytes = vec![0; end as usize];
    put(
        &mut bytes,
        format.field("common_type")?,
        u64::from(format.id()?),
    )?;
    put(
        &mut bytes,
        format.field("common_pid")?,
        record.task().tid.into(),
    )?;
    for field in format.fields() {
        // What only the record has says nothing of a call that is not there already.
        let is_pointee = field.name().starts_with("__") && field.name().ends_with("_val");
        let Some(value) = record.field(field.name()) else {
            match is_pointee {
                true => continue,
                false => return None,
            }
        };
        // A system call's string that could not be read is not in its text either.
        let Some(value) = value.value() else { continue };
        match (value.integer(), data_of(&value)) {
            (Some(number), _) => put(&mut bytes, field, number as u64)?,
            (None, Some(data)) if field.kind().is_dynamic() => {
                let text_end = usize::from(field.is_text());
                let (start, length) = (bytes.len(), data.len() + text_end);
                let base = match field.kind() {
                    FieldKind::RelLoc => field.offset() as usize + field.size() as usize,
                    _ => 0,
                };
                let location = (length << 16) | (start - base);
                put(&mut bytes, field, u64::try_from(location).ok()?)?;
                bytes.extend(data);
                bytes.resize(start + length, 0);
            }
            // A string where the record has its address: only system calls'.
            (None, Some(_)) if field.kind() == FieldKind::Pointer => {}
            (None, Some(data)) => {
                let place = bytes.get_mut(field.offset() as usize..)?;
                let length = data.len().min(place.len()).min(field.size() as usize);
                place[..length].copy_from_slice(&data[..length]);
            }
            (None, None) => return None,
        }
    }
    Some(bytes)
}

fn data_of<'v>(value: &Value<'v>) -> Option<&'v [u8]> {
    match *value {
        Value::Text(bytes) | Value::Bytes(bytes) => Some(bytes),
        Value::Integers(integers) => Some(integers.bytes()),
        _ => None,
    }
}

/// Writes a number where a field is, of the field's size.
fn put(bytes: &mut [u8], field: &Field, number: u64) -> Option<()> {
    let place = bytes.get_mut(field.offset() as usize..)?;
    let place = place.get_mut(..field.size() as usize)?;
    let size = place.len().min(8);
    match cfg!(target_endian = "big") {
        false => place[..size].copy_from_slice(&number.to_ne_bytes()[..size]),
        true => place[..size].copy_from_slice(&number.to_ne_bytes()[8 - size..]),
    }
    Some(())
}
