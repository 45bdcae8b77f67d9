//! Makes the programs of a probe, loads them and attaches them.

use aya::maps::{Array, IterableMap, MapData, PerCpuArray};

use super::attach::{Attachments, unattachable};
use super::attached::Attached;
use super::builder::ProbeBuilder;
use super::error::ProbeError;
use super::probed::{Hook, Probed, condition_on_event, sources_on_event};
use super::program::{self, Action, Adding, Tasks};
use super::service::{PlannedProgram, ProgramPreference, Served, Service};
use super::syscalls::{SyscallAnswer, SyscallHook, SyscallProgram, SyscallSlots, SyscallWay};
use super::{descriptor, map_error, map_with_memory};
use crate::bpf::asm::Program;
use crate::kernel::{Kernel, ProgramForm};
use crate::name::SyscallSide;
use crate::text::KernelVersion;

/// Where a probe counts.
#[derive(Clone, Copy)]
pub(super) struct CountMap {
    pub(super) counts: i32,
    /// The key of values that cannot be read.
    pub(super) unreadable: u32,
}

/// An event's programs, for each way to get at values.
type Made = Vec<(Hook, Program)>;

impl ProbeBuilder {
    /// Makes the programs, loads them and attaches them, with a per-CPU array of so many
    /// counts. An action is that of the event and of the hook with these indexes.
    pub(super) fn attach_programs<'p>(
        &self,
        counts: usize,
        served: &[Served],
        action: impl Fn((usize, usize), &CountMap) -> Action<'p>,
    ) -> Result<Attached, ProbeError> {
        // Two more: for the tasks that could not be followed, and for unreadable values.
        let untracked = u32::try_from(counts).unwrap_or(u32::MAX - 2);
        let end = untracked + 2;
        let slots = SyscallSlots::new(served, end);
        let counts = map_with_memory(|| PerCpuArray::create(slots.end(), 0))?;
        let maps = CountMap {
            counts: descriptor(counts.map()),
            unreadable: untracked + 1,
        };
        let mut attached = Attached {
            programs: Attachments::default(),
            followed: None,
            counts,
            untracked,
            end,
            plan: Vec::new(),
        };
        let Some(first) = self.events.first() else {
            return Ok(attached);
        };
        let kernel = first.kernel();
        let dynamic = kernel.dynamic_events();
        for event in &self.events {
            check(event, &dynamic)?;
        }
        let (tasks, followed) = self.scope.follow(kernel, (maps.counts, untracked))?;
        attached.followed = followed;
        // All programs are made before the first is attached: what is wrong with one is
        // known early.
        let mut programs = Vec::new();
        for (index, (event, served)) in self.events.iter().zip(served).enumerate() {
            if let Service::SystemCall { .. } = served.service {
                programs.push(Made::new());
                continue;
            }
            let mut at = 0;
            programs.push(served.for_each_hook(|hook| {
                let action = action((index, at), &maps);
                at += 1;
                let program = self.program_for((index as u32, event), *hook, tasks, &action)?;
                Ok((*hook, program))
            })?);
        }
        for (index, (event, served)) in self.events.iter().zip(served).enumerate() {
            if let Service::SystemCall { .. } = served.service {
                continue;
            }
            self.attach_one(&mut attached, (index, event), served, &programs[index])?;
        }
        // The kernel keeps it as long as a program uses it.
        let indexes;
        let first = served
            .iter()
            .position(|one| matches!(one.service, Service::SystemCall { .. }));
        let Some(first) = first else {
            return Ok(attached);
        };
        let (slots, answer) = match action((first, 0), &maps) {
            Action::Count { counts } => (slots, SyscallAnswer::Count { counts }),
            action => {
                let slots = SyscallSlots::new(served, 0);
                indexes = indexes_in(slots, served)?;
                let indexes = descriptor(indexes.map());
                (slots, SyscallAnswer::Act { indexes, action })
            }
        };
        for side in [SyscallSide::Enter, SyscallSide::Exit] {
            self.attach_to_calls(&mut attached, served, side, (slots, &answer), tasks)?;
        }
        Ok(attached)
    }

    /// Attaches the first of an event's programs that the kernel takes.
    fn attach_one(
        &self,
        attached: &mut Attached,
        (index, event): (usize, &Probed),
        served: &Served,
        programs: &Made,
    ) -> Result<(), ProbeError> {
        let mut rest = programs.iter();
        while let Some((hook, program)) = rest.next() {
            let programs = &mut attached.programs;
            let result = match (event, &served.service) {
                (Probed::Event(event), Service::Tracepoint(raw)) => {
                    match programs.attach_raw(raw, *hook, program) {
                        Err(ProbeError::Rejected { .. } | ProbeError::NoTracepoint { .. })
                            if self.preference == ProgramPreference::Cheapest =>
                        {
                            // It asks for no field, and so does for a record, too.
                            programs.attach(event, program, index as u64)?;
                            attached.plan.push(
                                Served::refused()
                                    .planned(&Probed::Event(event.clone()), Hook::Event),
                            );
                            return Ok(());
                        }
                        result => result,
                    }
                }
                (Probed::Event(event), _) => programs.attach(event, program, index as u64),
                (Probed::Raw(raw), _) => programs.attach_raw(raw, *hook, program),
            };
            match result {
                // The verifier has no types for some arguments, and does not see into all
                // structs.
                Err(ProbeError::Rejected { .. } | ProbeError::NoTpBtf { .. })
                    if !rest.as_slice().is_empty() => {}
                Err(error) => return Err(error),
                Ok(()) => {
                    attached.plan.push(served.planned(event, *hook));
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Attaches the program for all system calls of one side, if it serves any event.
    fn attach_to_calls(
        &self,
        attached: &mut Attached,
        served: &[Served],
        side: SyscallSide,
        (slots, answer): (SyscallSlots, &SyscallAnswer<'_>),
        tasks: Tasks,
    ) -> Result<(), ProbeError> {
        let of_side = |one: &&Served| matches!(one.service, Service::SystemCall { side: its, .. } if its == side);
        let events = self.events.iter().zip(served);
        let events: Vec<_> = events.filter(|(_, one)| of_side(one)).collect();
        let Some((Probed::Event(first), of_first)) = events.first() else {
            return Ok(());
        };
        let kernel = first.kernel();
        // It was there when the services were chosen.
        let way = SyscallWay::of(kernel).ok_or_else(|| ProbeError::Changed {
            event: first.name().clone(),
        })?;
        // The filter asks for no field of any of them, and so is the same for all.
        let filter = self.condition_of(first.name());
        let filter = filter.as_ref();
        let bound = filter.map(|filter| condition_on_event(first, filter));
        let bound = bound.transpose()?;
        let all = SyscallProgram {
            side,
            way,
            slots,
            answer,
            tasks,
            filter: bound.as_ref().map(|bound| bound.root()),
            adding: adding_of_raw(kernel),
        };
        let names = events.iter().map(|(event, _)| event.name().clone());
        let mut result = Ok(());
        for hook in SyscallHook::ALL {
            let program = all.program(hook).map_err(|_| ProbeError::LongProgram {
                event: first.name().clone(),
            })?;
            let form = match (side, hook) {
                (SyscallSide::Exit, SyscallHook::Direct) => ProgramForm::TpBtf,
                _ => ProgramForm::RawTp,
            };
            let programs = &mut attached.programs;
            result = programs.attach_to_all_calls(kernel, all.tracepoint(), form, &program);
            if result.is_ok() {
                attached.plan.push(PlannedProgram {
                    form,
                    section: format!("{form}/{}", all.tracepoint()),
                    events: names.collect(),
                    reason: of_first.reason,
                });
                break;
            }
        }
        result
    }

    fn program_for(
        &self,
        (index, event): (u32, &Probed),
        hook: Hook,
        tasks: Tasks,
        action: &Action<'_>,
    ) -> Result<Program, ProbeError> {
        let adding = match (hook, action) {
            (Hook::Event, _) => Adding::Plain,
            // No other program counts at its key.
            (_, Action::Count { .. }) => adding_of_raw(event.kernel()),
            _ => Adding::Atomic,
        };
        let filter = self.condition_of(event.name());
        let made = match (event, &filter) {
            (_, None) => program::on_event(index, tasks, None, action, adding),
            (Probed::Event(event), Some(filter)) => {
                let bound = condition_on_event(event, filter)?;
                let sources = sources_on_event(event, &bound)?;
                let filter = Some((bound.root(), &*sources));
                program::on_event(index, tasks, filter, action, adding)
            }
            (Probed::Raw(raw), Some(filter)) => {
                let (format, sources, prints) = raw.filtered(filter, hook)?;
                let bound = raw.bind(filter, &format, &prints)?;
                let sources: Vec<_> = format.fields().iter().zip(sources).collect();
                let filter = Some((bound.root(), &*sources));
                program::on_event(index, tasks, filter, action, adding)
            }
        };
        made.map_err(|_| ProbeError::LongProgram {
            event: event.name().clone(),
        })
    }
}

/// Makes the array in which a program finds the events of system calls: each slot has the index
/// plus one.
fn indexes_in(slots: SyscallSlots, served: &[Served]) -> Result<Array<MapData, u32>, ProbeError> {
    let mut indexes = map_with_memory(|| Array::<MapData, u32>::create(slots.end(), 0))?;
    for (served, index) in served.iter().zip(0..) {
        if let Service::SystemCall { .. } = served.service {
            let set = indexes.set(slots.key(index, &served.service), index + 1, 0);
            set.map_err(|error| map_error("numbering system calls", error))?;
        }
    }
    Ok(indexes)
}

/// How the program of a raw tracepoint adds to a count that no other program adds to: since
/// Linux 6.1 the kernel does not run it inside of itself on a CPU (`active` of `struct
/// bpf_prog` in `__bpf_trace_run()`, `kernel/trace/bpf_trace.c`), and counts the runs it skips.
fn adding_of_raw(kernel: &Kernel) -> Adding {
    match kernel.version() {
        Ok(Some(version)) if version >= KernelVersion::new(6, 1, 0) => Adding::Plain,
        _ => Adding::Atomic,
    }
}

fn check(event: &Probed, dynamic: &str) -> Result<(), ProbeError> {
    let name = || event.name().clone();
    if !event.kernel().is_live() {
        return Err(ProbeError::NotLive { event: name() });
    }
    let kind = match event {
        Probed::Event(event) => unattachable(event, dynamic),
        Probed::Raw(_) => None,
    };
    match kind {
        Some(kind) => Err(ProbeError::Unattachable {
            event: name(),
            kind,
        }),
        None => Ok(()),
    }
}
