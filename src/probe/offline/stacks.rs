//! Programs that count by stacks.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{COUNTS, GROUPED, SCRATCHES, STACKS, fixture, in_world, run, task};
use crate::Kernel;
use crate::bpf::asm::{Assembler, Program, Reg, Size};
use crate::probe::group::{GroupPlan, GroupValue};
use crate::probe::plan::STACK_DEPTH;
use crate::probe::probed::{Hook, Probed};
use crate::probe::program::{self, Action, Adding, CONTEXT, EventIndex, KEY, Tasks, count};
use crate::probe::stacks::{self, SCRATCH, STACK, StackExit, StackMaps};

const MAPS: StackMaps = StackMaps {
    stacks: STACKS,
    scratch: SCRATCHES,
};

/// The plan and the program of groups by these words.
fn by(words: &[&str]) -> (GroupPlan, Program) {
    let kernel = Kernel::at(fixture("6.18.15-x86_64")).expect("a kernel");
    let switch = kernel.tracepoint("sched:sched_switch").expect("an event");
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let plan = GroupPlan::new(&Probed::Event(switch), &words, None, Hook::Event);
    let plan = plan.expect("a plan");
    let action = Action::Group {
        plan: &plan,
        map: GROUPED,
        stacks: Some(MAPS),
        lost: COUNTS,
        unreadable: 1,
    };
    let program =
        program::on_event(0, Tasks::All, None, &action, Adding::Plain).expect("a program");
    (plan, program)
}

fn start() {
    in_world(|world| {
        world.key = None;
        world.counts = vec![0; 2];
        world.group = vec![0; 4];
        world.no_more_groups = false;
        world.task = Some(task());
        world.scratch = vec![0; SCRATCH];
        world.stacks = vec![0; STACK * 64];
        world.stack_numbers = Vec::new();
    });
}

/// Runs a program, and returns the values of its group; `None` if it counted none.
fn group_of(
    plan: &GroupPlan,
    program: &Program,
    stacks: [Option<&[u64]>; 2],
) -> Option<Vec<GroupValue>> {
    in_world(|world| {
        world.key = None;
        world.now = stacks.map(|stack| stack.map(<[u64]>::to_vec));
    });
    run(program, &mut [0; 128]);
    let key = in_world(|world| world.key)?;
    let stack = |number| {
        in_world(|world| {
            let at = world
                .stack_numbers
                .iter()
                .position(|known| *known == number);
            let kept = match at {
                Some(at) => world.stacks[at * STACK..][..STACK]
                    .try_into()
                    .expect("a stack"),
                None => [0; STACK],
            };
            Ok(stacks::addresses(&kept))
        })
    };
    Some(plan.values(&key, &stack).expect("values"))
}

/// Stacks, of which many begin alike.
fn any_stack() -> impl Strategy<Value = Vec<u64>> {
    let address = prop_oneof![8 => 0_u64..3, 1 => any::<u64>()];
    prop::collection::vec(address, 0..=STACK_DEPTH as usize)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// A group has the very stacks that were there, whichever were before, and the same stacks
    /// have the same number.
    #[test]
    fn a_group_has_its_stacks(all in prop::collection::vec((any_stack(), any_stack()), 1..20)) {
        start();
        let (plan, program) = by(&["kstack", "ustack"]);
        let mut numbers = BTreeMap::new();
        for (kernel, user) in all.iter().chain(&all) {
            let group = group_of(&plan, &program, [Some(kernel), Some(user)]).expect("a group");
            let is_cut = |stack: &[u64]| stack.len() == STACK_DEPTH as usize;
            prop_assert_eq!(&group, &vec![
                GroupValue::KernelStack { addresses: kernel.clone(), is_cut: is_cut(kernel) },
                GroupValue::UserStack {
                    pid: if user.is_empty() { 0 } else { 10 },
                    addresses: user.clone(),
                    is_cut: is_cut(user),
                },
            ]);
            let key = in_world(|world| world.key).expect("a key");
            prop_assert_eq!(numbers.entry((kernel, user)).or_insert(key), &key);
        }
        prop_assert_eq!(in_world(|world| world.counts.clone()), [0, 0]);
    }
}

#[test]
fn what_has_no_stack_is_a_group() {
    start();
    let (plan, program) = by(&["kstack", "ustack", "pid"]);
    let group = group_of(&plan, &program, [None, None]).expect("a group");
    assert_eq!(
        group,
        [
            GroupValue::KernelStack {
                addresses: Vec::new(),
                is_cut: false
            },
            GroupValue::UserStack {
                pid: 0,
                addresses: Vec::new(),
                is_cut: false
            },
            GroupValue::Unsigned(10),
        ]
    );
}

/// Of two stacks with one number the second is lost, and never taken for the first.
#[test]
fn stacks_with_the_same_number_are_told_apart() {
    start();
    let (plan, program) = by(&["kstack"]);
    let stack = [7, 8, 9];
    group_of(&plan, &program, [Some(&stack), None]).expect("a group");
    // Another stack in its place: at its end, in the middle, of another length.
    for (at, other) in [(3, 10), (1, 6), (0, 16)] {
        start();
        group_of(&plan, &program, [Some(&stack), None]).expect("a group");
        in_world(|world| world.stacks[at] = other);
        assert_eq!(group_of(&plan, &program, [Some(&stack), None]), None);
        assert_eq!(in_world(|world| world.counts.clone()), [1, 0]);
    }
}

#[test]
fn without_space_events_are_lost() {
    start();
    let (plan, program) = by(&["kstack"]);
    in_world(|world| world.stacks = Vec::new());
    assert_eq!(group_of(&plan, &program, [Some(&[7]), None]), None);
    assert_eq!(in_world(|world| world.counts.clone()), [1, 0]);
}

/// A program that is interrupted by itself leaves the stack of the interrupted one alone.
#[test]
fn a_place_in_use_is_not_written_to() {
    /// Where the key is on the program's stack.
    const AT: i16 = -200;
    let mut asm = Assembler::default();
    let (lost, out) = (asm.label(), asm.label());
    asm.mov_reg(CONTEXT, Reg::R1);
    asm.store_imm(Size::B8, Reg::Fp, AT, 0);
    let exit = StackExit {
        lost,
        may_nest: true,
    };
    stacks::write_stack(&mut asm, false, (EventIndex::One(0), AT), MAPS, exit);
    asm.jump(out);
    asm.place(lost);
    asm.store_imm(Size::B4, Reg::Fp, KEY, 0);
    count(&mut asm, COUNTS, Adding::Plain, out);
    asm.place(out);
    asm.mov(Reg::R0, 0);
    asm.exit();
    let program = asm.finish().expect("a program");

    let lost_of = |stack: Option<&[u64]>| {
        in_world(|world| world.now = [stack.map(<[u64]>::to_vec), None]);
        run(&program, &mut [0; 128]);
        in_world(|world| world.counts[0])
    };
    start();
    in_world(|world| world.scratch[STACK] = 1);
    assert_eq!(lost_of(Some(&[7])), 1);
    assert_eq!(in_world(|world| world.scratch[..2].to_vec()), [0, 0]);
    // Whatever way it ends, the place is free.
    in_world(|world| world.scratch[STACK] = 0);
    for stack in [Some(&[7][..]), None, Some(&[7, 8]), Some(&[7])] {
        assert_eq!(lost_of(stack), 1);
        assert_eq!(in_world(|world| world.scratch[STACK]), 0);
    }
    in_world(|world| world.stacks[1] = 0);
    assert_eq!(lost_of(Some(&[7])), 2);
    assert_eq!(in_world(|world| world.scratch[STACK]), 0);
}
