//! The rows of one kernel.

use std::collections::BTreeSet;

use tracepoints::format::Field;
use tracepoints::format::print::FieldPrint;
use tracepoints::{ByteOrder, Context, Error, EventName, Kernel, Tracepoint};

use super::table::ColumnType::{Number, Text, Truth};
use super::table::{Cell, Row, Table};
use crate::kernel::Identity;
use crate::output::with_causes;

const KERNELS: Table = Table {
    name: "kernels",
    columns: &[
        ("kernel", Text, false),
        ("kernel_release", Text, true),
        ("architecture", Text, true),
        ("byte_order", Text, true),
        ("long_size", Number, true),
        ("has_btf", Truth, false),
        ("is_image", Truth, false),
        ("events", Number, false),
        ("unreadable_events", Number, false),
    ],
};

const EVENTS: Table = Table {
    name: "events",
    columns: &[
        ("kernel", Text, false),
        ("event", Text, false),
        ("category", Text, false),
        ("name", Text, false),
        ("id", Number, true),
        ("is_listed", Truth, false),
        ("is_syscall", Truth, false),
        ("is_probe_event", Truth, false),
        ("class", Text, true),
        ("context_struct", Text, true),
        ("evidence", Text, true),
        ("home", Text, true),
        ("type_id", Number, true),
        ("record_end", Number, true),
        ("print_fmt", Text, true),
        ("error", Text, true),
    ],
};

const FIELDS: Table = Table {
    name: "fields",
    columns: &[
        ("kernel", Text, false),
        ("event", Text, false),
        ("position", Number, false),
        ("field", Text, false),
        ("member", Text, false),
        ("is_common", Truth, false),
        ("declaration", Text, false),
        ("kind", Text, false),
        ("offset", Number, false),
        ("size", Number, false),
        ("is_signed", Truth, true),
        ("context_offset", Number, true),
        ("context_size", Number, true),
        ("printed_as", Text, true),
    ],
};

const SYMBOLS: Table = Table {
    name: "symbols",
    columns: &[
        ("kernel", Text, false),
        ("event", Text, false),
        ("field", Text, false),
        ("kind", Text, false),
        ("position", Number, false),
        ("symbol", Text, false),
        ("value", Number, true),
    ],
};

const TRACEPOINTS: Table = Table {
    name: "tracepoints",
    columns: &[
        ("kernel", Text, false),
        ("tracepoint", Text, false),
        ("home", Text, false),
        ("arguments", Number, false),
    ],
};

const ARGUMENTS: Table = Table {
    name: "arguments",
    columns: &[
        ("kernel", Text, false),
        ("tracepoint", Text, false),
        ("position", Number, false),
        ("name", Text, true),
        ("type", Text, false),
        ("declaration", Text, false),
    ],
};

/// The rows of all tables.
pub(super) struct KernelTables {
    kernel: String,
    kernels: Vec<Row>,
    pub(super) events: Vec<Row>,
    fields: Vec<Row>,
    symbols: Vec<Row>,
    tracepoints: Vec<Row>,
    arguments: Vec<Row>,
    pub(super) unreadable: u64,
}

impl KernelTables {
    /// Reads a kernel. An event that cannot be read is a row with the error.
    pub(super) fn read(name: &str, identity: &Identity, kernel: &Kernel) -> Result<Self, Error> {
        let mut tables = Self {
            kernel: name.to_owned(),
            kernels: Vec::new(),
            events: Vec::new(),
            fields: Vec::new(),
            symbols: Vec::new(),
            tracepoints: Vec::new(),
            arguments: Vec::new(),
            unreadable: 0,
        };
        let has_btf = match kernel.btf_objects() {
            Ok(_) => true,
            Err(Error::NoBtf { .. }) => false,
            Err(error) => return Err(error),
        };
        let listed = kernel.events()?;
        let directories = kernel.event_directories()?;
        let mut names: Vec<EventName> = listed.names().to_vec();
        names.extend(directories.names().iter().cloned());
        names.sort();
        names.dedup();
        let listed: BTreeSet<&EventName> = listed.names().iter().collect();
        for (event, found) in names.iter().zip(kernel.contexts(&names)?) {
            let is_listed = listed.contains(event);
            match found.and_then(|(tracepoint, context)| {
                tables.add_event(event, is_listed, &tracepoint, &context)
            }) {
                Ok(()) => {}
                // A directory whose event went away meanwhile.
                Err(Error::EventGone { .. }) => {}
                Err(error) if error.is_of_one_event() => {
                    tables.add_unreadable(event, is_listed, &error);
                }
                Err(error) => return Err(error),
            }
        }
        if has_btf {
            tables.add_tracepoints(kernel)?;
        }
        let machine = kernel.machine().ok();
        let byte_order = machine.map(|machine| match machine.byte_order() {
            ByteOrder::Little => "little",
            ByteOrder::Big => "big",
        });
        tables.kernels.push(vec![
            name.into(),
            identity.release().into(),
            identity.architecture().into(),
            byte_order.into(),
            machine.map(|machine| machine.long_size()).into(),
            has_btf.into(),
            kernel.is_image().into(),
            tables.events.len().into(),
            (tables.unreadable as usize).into(),
        ]);
        Ok(tables)
    }

    /// Returns the tables with their rows.
    pub(super) fn all(&self) -> [(&'static Table, &[Row]); 6] {
        [
            (&KERNELS, &self.kernels),
            (&EVENTS, &self.events),
            (&FIELDS, &self.fields),
            (&SYMBOLS, &self.symbols),
            (&TRACEPOINTS, &self.tracepoints),
            (&ARGUMENTS, &self.arguments),
        ]
    }

    fn row(&self, event: &EventName, rest: impl IntoIterator<Item = Cell>) -> Row {
        let start = [self.kernel.as_str().into(), event.as_str().into()];
        start.into_iter().chain(rest).collect()
    }

    fn add_event(
        &mut self,
        event: &EventName,
        is_listed: bool,
        tracepoint: &Tracepoint,
        context: &Context,
    ) -> Result<(), Error> {
        let format = tracepoint.format();
        let is_syscall = tracepoint.is_syscall();
        let slots = context.field_slots()?;
        let long_size = tracepoint
            .kernel()
            .machine()
            .map_or(8, |machine| machine.long_size());
        let common = format.common_fields().iter().map(|field| {
            // Before the first field of its own, a program gets a pointer there.
            let is_there = !is_syscall && field.offset() >= long_size;
            let place = is_there.then_some((field.offset(), field.size()));
            (field, field.member_name(), true, place)
        });
        let own = format.fields().iter().zip(&slots).map(|(field, slot)| {
            if !is_syscall {
                let place = Some((field.offset(), field.size()));
                return (field, field.member_name(), false, place);
            }
            let slot = slot.as_ref();
            let member = slot.map_or_else(|| field.member_name(), |slot| slot.name().to_owned());
            (
                field,
                member,
                false,
                slot.map(|slot| (slot.offset(), slot.size())),
            )
        });
        let fields: Vec<_> = common.chain(own).collect();
        for (position, (field, member, is_common, place)) in fields.into_iter().enumerate() {
            let print = tracepoint.field_print(field.name()).unwrap_or_default();
            let row = [
                position.into(),
                field.name().into(),
                member.into(),
                is_common.into(),
                field.declaration().to_string().into(),
                field.kind().as_str().into(),
                field.offset().into(),
                field.size().into(),
                field.signed().into(),
                place.map(|(offset, _)| offset).into(),
                place.map(|(_, size)| size).into(),
                print.as_str().into(),
            ];
            self.fields.push(self.row(event, row));
            self.add_symbols(event, field, &print);
        }
        let row = [
            event.category().into(),
            event.event().into(),
            tracepoint.id().into(),
            is_listed.into(),
            is_syscall.into(),
            tracepoint.is_probe_event().into(),
            context.class().into(),
            context.struct_name().into(),
            context.evidence().as_str().into(),
            context.home().into(),
            context.type_id().into(),
            format.record_end().into(),
            format.print_fmt().into(),
            Cell::Null,
        ];
        self.events.push(self.row(event, row));
        Ok(())
    }

    fn add_symbols(&mut self, event: &EventName, field: &Field, print: &FieldPrint) {
        let kinds = [("flag", &print.flags), ("value", &print.symbols)];
        for (kind, names) in kinds {
            for (position, named) in names.iter().enumerate() {
                let row = [
                    field.name().into(),
                    kind.into(),
                    position.into(),
                    named.name.as_str().into(),
                    // The 64 bits, as a signed number.
                    named.value.map(|value| value as i64).into(),
                ];
                self.symbols.push(self.row(event, row));
            }
        }
    }

    fn add_unreadable(&mut self, event: &EventName, is_listed: bool, error: &Error) {
        self.unreadable += 1;
        let mut row = self.row(
            event,
            [
                event.category().into(),
                event.event().into(),
                Cell::Null,
                is_listed.into(),
                false.into(),
                false.into(),
            ],
        );
        row.resize(EVENTS.columns.len() - 1, Cell::Null);
        row.push(with_causes(error).into());
        self.events.push(row);
    }

    fn add_tracepoints(&mut self, kernel: &Kernel) -> Result<(), Error> {
        for name in kernel.raw_tracepoint_names()? {
            let raw = match kernel.raw_tracepoint(&name) {
                Ok(raw) => raw,
                // A module went away.
                Err(Error::NoRawTracepoint { .. }) => continue,
                Err(error) => return Err(error),
            };
            let start: [Cell; 2] = [self.kernel.as_str().into(), name.as_str().into()];
            let row = [raw.home().into(), raw.arguments().len().into()];
            self.tracepoints
                .push(start.iter().cloned().chain(row).collect());
            for (position, argument) in raw.arguments().iter().enumerate() {
                let row = [
                    position.into(),
                    argument.name().into(),
                    argument.c_type().into(),
                    argument.declaration().into(),
                ];
                self.arguments
                    .push(start.iter().cloned().chain(row).collect());
            }
        }
        Ok(())
    }
}
