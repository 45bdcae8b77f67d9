//! No struct is named for a record whose layout differs from it.

use std::cell::Cell;
use std::fs;

use super::{Line, format_text};
use crate::support;
use crate::support::capture::Capture;
use proptest::prelude::*;
use proptest::sample::Index;
use tracepoints::format::Format;
use tracepoints::{EventName, Evidence, Kernel, layout::Layout};

/// A change to a record's field lines.
#[derive(Clone, Debug)]
enum Change {
    Move(Index, i32),
    Resize(Index, u32),
    Rename(Index),
    Swap(Index, Index),
    Remove(Index),
    Repeat(Index),
    Add(Index, u32),
    /// A value becomes a `__data_loc`, or the other way round.
    Relocate(Index),
    /// Removes `signed:`, which changes no place.
    Sign(Index),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        (at(), -8..9_i32).prop_map(|(at, by)| Change::Move(at, by)),
        (at(), 0..20_u32).prop_map(|(at, size)| Change::Resize(at, size)),
        at().prop_map(Change::Rename),
        (at(), at()).prop_map(|(one, other)| Change::Swap(one, other)),
        at().prop_map(Change::Remove),
        at().prop_map(Change::Repeat),
        (at(), 1..9_u32).prop_map(|(at, size)| Change::Add(at, size)),
        at().prop_map(Change::Relocate),
        at().prop_map(Change::Sign),
    ]
}

impl Change {
    fn apply(&self, lines: &mut Vec<Line>) {
        if lines.is_empty() {
            return;
        }
        let length = lines.len();
        match self {
            Self::Move(at, by) => {
                let line = &mut lines[at.index(length)];
                line.offset = line.offset.saturating_add_signed(*by);
            }
            Self::Resize(at, size) => lines[at.index(length)].size = *size,
            Self::Rename(at) => {
                let line = &mut lines[at.index(length)];
                let end = line.declaration.find('[');
                let end = end.filter(|_| line.declaration.ends_with(']'));
                let end = end.unwrap_or(line.declaration.len());
                line.declaration.insert_str(end, "_x");
            }
            Self::Swap(one, other) => lines.swap(one.index(length), other.index(length)),
            Self::Remove(at) => drop(lines.remove(at.index(length))),
            Self::Repeat(at) => {
                let line = lines[at.index(length)].clone();
                lines.push(line);
            }
            Self::Add(at, size) => {
                let before = at.index(length);
                let added = Line {
                    declaration: "int added".to_owned(),
                    size: *size,
                    ..lines[before].clone()
                };
                lines.insert(before, added);
            }
            Self::Relocate(at) => {
                let line = &mut lines[at.index(length)];
                line.declaration = match line.declaration.strip_prefix("__data_loc ") {
                    Some(rest) => rest.replace("[]", ""),
                    None => format!("__data_loc {}", line.declaration),
                };
            }
            Self::Sign(at) => {
                let line = &mut lines[at.index(length)];
                line.signed = None;
            }
        }
    }
}

/// A copy of a fixture, and its events that are not system calls.
type Copied = (Capture, Kernel, Vec<(EventName, Format)>);

/// Copies of the fixtures with BTF.
fn kernels_with_btf() -> Vec<Copied> {
    let mut kernels = Vec::new();
    for root in support::fixtures() {
        if !root.join("btf/vmlinux").exists() {
            continue;
        }
        let mut copy = Capture::new();
        for object in fs::read_dir(root.join("btf")).expect("objects") {
            let object = object.expect("an object");
            let name = object.file_name().into_string().expect("a name");
            copy.btf(&name, &fs::read(object.path()).expect("an object"));
        }
        let mut events = Vec::new();
        let original = Kernel::at(&root).expect("a kernel");
        for name in original.events().expect("events") {
            let event = original.tracepoint(&name).expect("an event");
            let format = event.format();
            copy.list(name.as_str());
            copy.file(name.as_str(), "format", format.to_string());
            if name.category() != "syscalls" {
                events.push((name, format.clone()));
            }
        }
        let kernel = copy.kernel();
        kernels.push((copy, kernel, events));
    }
    kernels
}

/// Whatever is changed in a record, an answer that names a struct names one of the same
/// layout.
#[test]
fn no_class_is_named_for_another_layout() {
    let kernels = kernels_with_btf();
    let (named, refused) = (Cell::new(0), Cell::new(0));
    let changes = (
        any::<Index>(),
        any::<Index>(),
        prop::collection::vec((any::<bool>(), change()), 0..4),
    );
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(1024));
    let result = runner.run(&changes, |(kernel, event, changes)| {
        let (capture, kernel, events) = kernel.get::<Copied>(&kernels);
        let (name, original) = event.get::<(EventName, Format)>(events);
        let mut common: Vec<Line> = original.common_fields().iter().map(Line::of).collect();
        let mut own: Vec<Line> = original.fields().iter().map(Line::of).collect();
        for (in_common, change) in changes {
            // The common fields change only rarely.
            match in_common && own.len().is_multiple_of(3) {
                true => change.apply(&mut common),
                false => change.apply(&mut own),
            }
        }
        let text = format_text(original.name(), &common, &own, "\"\"");
        let Ok(format) = Format::parse(&text) else {
            return Ok(());
        };
        let path = capture.path(name.as_str(), "format");
        fs::write(&path, &text).expect("a file");
        let context = support::context(kernel, name);
        fs::write(&path, original.to_string()).expect("a file");
        let context = context.map_err(|error| TestCaseError::fail(error.to_string()))?;
        let layout = context
            .layout()
            .map_err(|error| TestCaseError::fail(error.to_string()))?;
        check_layout_of_hostile(&layout);
        if let Evidence::Format(_) = context.evidence() {
            prop_assert_eq!(context.struct_name(), None);
            prop_assert_eq!(context.type_id(), None);
            refused.set(refused.get() + 1);
            return Ok(());
        }
        // The answer is a name or candidates, all of this layout.
        named.set(named.get() + 1);
        let names_one = context.struct_name().is_some();
        prop_assert!(names_one || context.candidates().len() > 1);
        let mut slots = layout.slots().iter();
        let entry = slots.next().and_then(|slot| slot.nested());
        let entry = entry.expect("the common fields").slots();
        prop_assert_eq!(entry.len(), format.common_fields().len());
        for (slot, field) in entry.iter().zip(format.common_fields()) {
            prop_assert_eq!(format!("common_{}", slot.name()), field.name());
            prop_assert_eq!((slot.offset(), slot.size()), (field.offset(), field.size()));
        }
        let members: Vec<_> = slots
            .filter(|slot| slot.name() != "__data")
            .map(|slot| (slot.name().to_owned(), slot.offset(), slot.size()))
            .collect();
        let mut fields: Vec<_> = format
            .fields()
            .iter()
            .map(|field| (field.member_name(), field.offset(), field.size()))
            .collect();
        fields.sort_by_key(|(_, offset, _)| *offset);
        prop_assert_eq!(members, fields);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}\n{runner}");
    }
    let (named, refused) = (named.get(), refused.get());
    assert!(named > 100 && refused > 300, "{named} named, {refused} not");
}

/// Panics unless the gaps are exactly the bytes no slot covers; slots may overlap.
fn check_layout_of_hostile(layout: &Layout) {
    let mut covered = vec![false; layout.size() as usize];
    for slot in layout.slots() {
        covered[slot.offset() as usize..slot.end() as usize].fill(true);
    }
    for gap in layout.gaps() {
        let bytes = &mut covered[gap.start as usize..gap.end as usize];
        assert!(!bytes.iter().any(|covered| *covered), "{gap:?}");
        bytes.fill(true);
    }
    assert!(covered.iter().all(|covered| *covered), "{layout:?}");
}
