//! Programs that count: in groups of values, and in buckets of histograms.

use proptest::prelude::*;
use proptest::sample::Index;

use super::{
    COUNTS, GROUPED, KERNELS, World, bytes_of, fixture, in_world, record_bytes, recorded_events,
    run, task, written,
};
use crate::machine::Machine;
use crate::probe::group::{GroupPlan, GroupValue, KEY_SIZE};
use crate::probe::plan::EventPlan;
use crate::probe::probed::{Hook, Probed};
use crate::probe::program::{self, Action, Adding, BUCKETS, Tasks};
use crate::record::{Record, Value};
use crate::{Kernel, Tracepoint};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever a record holds, it is counted in the group of its values.
    #[test]
    fn the_group_is_of_what_was_recorded(
        kernel in 0..KERNELS.len(),
        event in any::<Index>(),
        fields in prop::collection::vec(any::<Index>(), 1..4),
        measured in any::<Index>(),
        bytes in record_bytes(),
        lengths in prop::collection::vec(0..100_u8, 1..4),
    ) {
        let kernel = Kernel::at(fixture(KERNELS[kernel])).expect("a kernel");
        let events = recorded_events(&kernel);
        let tracepoint = kernel.tracepoint(event.get::<String>(&events)).expect("an event");
        let format = tracepoint.format();
        let names: Vec<String> = format.fields().iter().map(|field| field.name().to_owned()).collect();
        prop_assume!(!names.is_empty());
        let mut by: Vec<String> = fields.iter().map(|index| index.get(&names).clone()).collect();
        by.extend(["task.pid", "task.tid", "task.cpu", "task.comm"].map(str::to_owned));
        let measured = measured.get(&names).as_str();
        // Arrays make no groups, and strings are of no sum.
        let Ok(plan) = GroupPlan::new(&Probed::Event(tracepoint.clone()), &by, Some(measured), Hook::Event) else {
            return Ok(());
        };
        check_group(&tracepoint, &plan, &by, measured, &written(format, &bytes, &lengths));
    }
}

/// Runs the program of a group twice, on the same record.
fn check_group(
    tracepoint: &Tracepoint,
    plan: &GroupPlan,
    by: &[String],
    measured: &str,
    bytes: &[u8],
) {
    let format = tracepoint.format();
    let record = Record::new(format, bytes, Machine::NATIVE);
    let action = Action::Group {
        plan,
        map: GROUPED,
        stacks: None,
        lost: COUNTS,
        unreadable: 0,
    };
    let program =
        program::on_event(0, Tasks::All, None, &action, Adding::Plain).expect("a program");
    in_world(|world| {
        world.key = None;
        world.counts = vec![0];
        world.task = Some(task());
        world.no_more_groups = true;
    });
    let mut context = bytes.to_vec();
    run(&program, &mut context);
    in_world(|world| {
        assert_eq!((world.key, world.counts[0]), (None, 1));
        world.no_more_groups = false;
    });
    run(&program, &mut context);
    let key = in_world(|world| world.key).expect("a group");
    for (name, value) in std::iter::zip(by, values_of(plan, &key)) {
        let expected = match name.as_str() {
            "task.pid" => GroupValue::Unsigned(10),
            "task.tid" => GroupValue::Unsigned(11),
            "task.cpu" => GroupValue::Unsigned(3),
            "task.comm" => GroupValue::Text {
                text: "offline".to_owned(),
                is_cut: false,
            },
            name => match record.value(format.field(name).expect("a field")) {
                Ok(Value::Text(text)) => {
                    let kept = &text[..text.len().min(63)];
                    GroupValue::Text {
                        text: String::from_utf8_lossy(kept).into_owned(),
                        is_cut: kept.len() == 63,
                    }
                }
                // BTF alone says of a typedef that it is a pointer.
                Ok(recorded) => match (number_of(&recorded), &value) {
                    (number, GroupValue::Signed(_)) => GroupValue::Signed(number as i64),
                    (number, GroupValue::Pointer(_)) => GroupValue::Pointer(number),
                    (number, _) => GroupValue::Unsigned(number),
                },
                Err(_) => continue,
            },
        };
        assert_eq!(value, expected, "{}: {name}\n{program}", tracepoint.name());
    }
    let field = format.field(measured).expect("a field");
    let number = number_of(&record.value(field).expect("an integer"));
    let counted = |world: &mut World| world.group.clone();
    assert_eq!(in_world(counted), [1, number, number, number], "{measured}");
    run(&program, &mut context);
    let sum = number.wrapping_mul(2);
    assert_eq!(in_world(counted), [2, sum, number, number], "{measured}");
    // As another CPU finds it: nothing counted yet.
    in_world(|world| world.group = vec![0; 4]);
    run(&program, &mut context);
    assert_eq!(in_world(counted), [1, number, number, number], "{measured}");
    let (least, greatest) = match plan.measured.as_ref().expect("one").signed {
        true => (i64::MIN as u64, i64::MAX as u64),
        false => (0, u64::MAX),
    };
    in_world(|world| world.group = vec![1, 0, greatest, least]);
    run(&program, &mut context);
    assert_eq!(in_world(counted), [2, number, number, number], "{measured}");
    in_world(|world| world.group = vec![1, 0, least, greatest]);
    run(&program, &mut context);
    assert_eq!(
        in_world(counted),
        [2, number, least, greatest],
        "{measured}"
    );
}

fn values_of(plan: &GroupPlan, key: &[u8; KEY_SIZE]) -> Vec<GroupValue> {
    let no_stack = |_| Ok((Vec::new(), false));
    plan.values(key, &no_stack).expect("values")
}

fn number_of(value: &Value<'_>) -> u64 {
    match (value, bytes_of(value)) {
        (Value::Pointer(address), _) => *address,
        // BTF alone says of a typedef that it is an integer.
        (_, Some(bytes)) => Machine::NATIVE.unsigned(bytes),
        (value, None) => value.integer().expect("an integer") as u64,
    }
}

#[test]
fn buckets_are_powers_of_two() {
    let kernel = Kernel::at(fixture("6.18.15-x86_64")).expect("a kernel");
    let exit = kernel
        .tracepoint("raw_syscalls:sys_exit")
        .expect("an event");
    let plan = EventPlan::new(&exit, Some(&["ret".to_owned()]), 64).expect("a plan");
    let histogram = |signed| {
        let action = Action::Histogram {
            counts: COUNTS,
            source: plan.fields[0].source.clone(),
            size: 8,
            signed,
            unreadable: 0,
        };
        program::on_event(1, Tasks::All, None, &action, Adding::Plain).expect("a program")
    };
    let bucket_of = |value: i64, signed| {
        in_world(|world| {
            world.counts = vec![0; 2 * BUCKETS as usize];
            world.task = Some(task());
        });
        let mut context = vec![0; 24];
        context[16..].copy_from_slice(&value.to_ne_bytes());
        run(&histogram(signed), &mut context);
        in_world(|world| {
            assert_eq!(world.counts.iter().sum::<u64>(), 1);
            let at = world.counts.iter().position(|count| *count == 1);
            at.expect("one") as u32 - BUCKETS
        })
    };
    assert_eq!(bucket_of(-1, true), 0);
    assert_eq!(bucket_of(i64::MIN, true), 0);
    assert_eq!(bucket_of(0, true), 1);
    assert_eq!(bucket_of(-1, false), 65);
    for power in 0..63 {
        let value = 1_i64 << power;
        assert_eq!(bucket_of(value, true), 2 + power, "{value}");
        assert_eq!(bucket_of(value | (value - 1), false), 2 + power, "{value}");
    }
}
