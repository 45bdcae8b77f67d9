//! Layouts: slots and gaps together cover all bytes.

use super::{common, format_text, lines, sketches};
use crate::support;
use proptest::prelude::*;
use tracepoints::format::Format;
use tracepoints::{Kernel, layout::Layout};

/// Panics unless slots are sorted by offset and lie inside the layout, and slots and gaps
/// together cover each byte exactly once (at least once in unions and with bitfields).
fn check_layout(layout: &Layout, what: &str) {
    let mut covered = vec![0_u32; layout.size() as usize];
    let mut bits_end = 0;
    let mut has_bits = false;
    let offsets = layout.slots().iter().map(|slot| slot.offset());
    assert!(offsets.is_sorted(), "{what}: {layout:#?}");
    for slot in layout.slots() {
        assert!(slot.end() <= layout.size(), "{what}: {slot:?}");
        for byte in &mut covered[slot.offset() as usize..slot.end() as usize] {
            *byte += 1;
        }
        match slot.bits() {
            _ if layout.is_union() => assert_eq!(slot.offset(), 0, "{what}"),
            Some(bits) => {
                has_bits = true;
                assert!(bits.start >= bits_end, "{what}: {slot:?}");
                bits_end = bits.end;
            }
            None => {
                let start = u64::from(slot.offset()) * 8;
                assert!(start >= bits_end, "{what}: {slot:?}");
                bits_end = u64::from(slot.end()) * 8;
            }
        }
        if let Some(nested) = slot.nested() {
            check_layout(nested, &format!("{what}, {}", slot.name()));
        }
    }
    for gap in layout.gaps() {
        assert!(gap.start < gap.end, "{what}: {gap:?}");
        for byte in &mut covered[gap.start as usize..gap.end as usize] {
            assert_eq!(*byte, 0, "{what}: {gap:?}");
            *byte += 1;
        }
    }
    let once = |count: &u32| *count == 1 || *count > 1 && (layout.is_union() || has_bits);
    assert!(covered.iter().all(once), "{what}: {layout:#?}");
    if !layout.is_union() && !has_bits {
        let slots: u32 = layout.slots().iter().map(|slot| slot.size()).sum();
        let gaps: u32 = layout.gaps().iter().map(|gap| gap.end - gap.start).sum();
        assert_eq!(slots + gaps, layout.size(), "{what}");
    }
}

#[test]
fn sizes_and_gaps_of_every_fixture_sum_up() {
    let mut count = 0;
    for root in support::fixtures() {
        let kernel = Kernel::at(&root).expect("a kernel");
        for name in kernel.event_directories().expect("events") {
            let event = kernel.tracepoint(&name).expect("an event");
            let context = event.context().expect("a context");
            let what = format!("{}: {name}", support::name(&root));
            check_layout(&context.layout().expect("a layout"), &what);
            check_layout(&event.format().layout(), &what);
            count += 2;
        }
    }
    assert_eq!(count, 2 * 568);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// A record's layout has every field where its line says, and the sizes of slots and
    /// gaps add up.
    #[test]
    fn a_records_sizes_and_gaps_sum_up(
        sketches in sketches(),
        is_long_entry in any::<bool>(),
        is_64_bit in any::<bool>(),
    ) {
        let entry = if is_long_entry { 12 } else { 8 };
        let long = if is_64_bit { 8 } else { 4 };
        let (common, own) = (common(entry), lines(&sketches, entry, long));
        let text = format_text("generated", &common, &own, "\"\"");
        let format = Format::parse(&text).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let layout = format.layout();
        check_layout(&layout, "a record");
        for (field, line) in format.fields().iter().zip(&own) {
            let slot = layout.slot(&field.member_name()).expect("a slot");
            prop_assert_eq!((slot.offset(), slot.size()), (line.offset, line.size));
        }
        let end = own.last().map_or(0, |line| line.offset + line.size);
        let common_end = if is_long_entry { 9 } else { 8 };
        prop_assert_eq!(layout.size(), end.max(common_end));
    }
}
