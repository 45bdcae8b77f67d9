//! Strings of system calls, and what their pointers point at, that are read when the call returns.
//!
//! A string in a page that the process has not touched cannot be read at entry: programs do
//! not wait for pages. The call itself reads it, and then it can be read. So the program at
//! entry marks a record with such a string, and keeps the strings' addresses in a map, by
//! thread; a program at the exit of the same call reads them there and writes a second record,
//! which `reading` joins to the first.
//!
//! The second record also has what the call returned, and when, where that is wanted.
//!
//! A successful `execve` gives the process other memory, where the addresses mean nothing:
//! its strings are not read at exit.

use std::collections::BTreeMap;

use aya::maps::{HashMap, IterableMap, MapData, PerCpuArray};

use super::attach::Attachments;
use super::builder::ProbeBuilder;
use super::conditions::{Conditions, Next};
use super::error::ProbeError;
use super::plan::{EventPlan, Source, header};
use super::pointees::{self, PointeeLength, Words};
use super::probed::{Probed, condition_on_event, sources_on_event};
use super::program::{
    Adding, CONTEXT, FieldSource, KEY, RECORD, SECOND, TEXT, UNREADABLE, VALUE, count, load,
    store_thread,
};
use super::service::{PlanReason, PlannedProgram};
use super::tasks::field;
use super::{descriptor, map_with_memory};
use crate::bpf::asm::{Alu, Assembler, BadJump, Helper, Jump, Label, Program, Reg, Size};
use crate::error::Error;
use crate::filter::BoundNode;
use crate::kernel::{ProgramForm, Tracepoint};
use crate::name::{EventName, SYSCALL_NUMBER, SyscallSide};

/// The field of the events of calls' exits that has the result.
const RET: &str = "ret";

/// When the strings that system calls get are read: see [`ProbeBuilder::strings`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StringReading {
    /// At entry. What cannot be read there stays unreadable.
    AtEntry,
    /// At entry, and what cannot be read there, at exit.
    #[default]
    WhereReadable,
    /// At entry and at exit, to find those that changed in between.
    Twice,
}

/// When a string was read: see [`ProbeRecord::string_origin`](super::ProbeRecord::string_origin).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StringOrigin {
    /// When the system call began.
    Entry,
    /// When it returned: it could not be read before, and may have changed since the call
    /// read it.
    Exit,
    /// When it began; and when it returned, another string was there.
    Rewritten,
    /// Neither then nor later.
    Unreadable,
}

/// Set in a record's index of its event: another record with its strings follows.
pub(super) const AWAITS: u32 = 1 << 31;
/// Set in that record's.
pub(super) const RETURNED: u32 = 1 << 30;

/// Set there, too, if it has the call's result.
pub(super) const HAS_RESULT: u32 = 1 << 29;

/// Set in the index of a record that has but the thread and the time: the filter does not hold
/// for the result of that call, and its record is to be dropped.
pub(super) const REFUSED: u32 = 1 << 28;
/// How many bytes of the header it has.
const REFUSED_SIZE: i32 = header::COMM as i32;

/// Where a second record has the result and the time of the return, 8 bytes each: the task's
/// name is in the first.
pub(super) const RESULT: i16 = header::COMM;
pub(super) const RETURN_TIME: i16 = header::COMM + 8;

/// How the program at entry leaves strings to the one at exit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    /// The map of threads, each with its record's event and time, and the addresses.
    pub(super) map: i32,
    pub(super) always: bool,
}

/// In words: the event's index, the time, and the addresses of as many strings as a system
/// call has arguments.
const WORDS: usize = 8;
/// How many threads can be in such calls at a time. More have their strings read at entry only.
const THREADS: u32 = 10_240;

pub(super) type WaitingMap = HashMap<MapData, u32, [u64; WORDS]>;

/// Marks the record, and keeps the addresses of its strings, if one could not be read.
pub(super) fn wait_for_return(
    asm: &mut Assembler,
    plan: &EventPlan,
    index: u32,
    waiting: &Waiting,
) {
    let (wait, done) = (asm.label(), asm.label());
    if !waiting.always {
        for field in plan.of_user() {
            // The length of a string, or the status of what a pointer points at.
            asm.load(Size::B4, Reg::R1, RECORD, field.at as i16);
            asm.alu(Alu::Lsh, Reg::R1, 32);
            asm.alu(Alu::Arsh, Reg::R1, 32);
            asm.jump_if(Jump::SLt, Reg::R1, 0, wait);
            if field.pointee.is_some() {
                asm.jump_if(Jump::Eq, Reg::R1, pointees::head::PARTLY, wait);
            }
        }
        asm.jump(done);
    }
    asm.place(wait);
    let word = |at: usize| TEXT + 8 * at as i16;
    asm.store_imm(Size::B8, Reg::Fp, word(0), index as i32);
    asm.load(Size::B8, Reg::R1, RECORD, header::TIMESTAMP);
    asm.store(Size::B8, Reg::Fp, word(1), Reg::R1);
    let arguments = arguments_of(plan);
    for at in 2..WORDS {
        match arguments.get(at - 2) {
            // An address that cannot be loaded is no string's.
            Some(source) => {
                let failed = asm.label();
                asm.mov(SECOND, 0);
                load(asm, source, SECOND, failed);
                asm.place(failed);
                asm.store(Size::B8, Reg::Fp, word(at), SECOND);
            }
            None => asm.store_imm(Size::B8, Reg::Fp, word(at), 0),
        }
    }
    store_thread(asm);
    asm.map_update(waiting.map, KEY, TEXT);
    asm.jump_if(Jump::Ne, Reg::R0, 0, done);
    asm.store_imm(Size::B4, RECORD, header::EVENT, (index | AWAITS) as i32);
    asm.place(done);
}

/// The arguments that the program at exit needs: those that are addresses of what is kept, or say
/// how long it is.
fn arguments_of(plan: &EventPlan) -> Vec<&Source> {
    let mut sources: Vec<&Source> = Vec::new();
    for field in plan.of_user() {
        let pointee = field.pointee.as_ref();
        let length = pointee.and_then(|pointee| match &pointee.length {
            PointeeLength::Whole | PointeeLength::Result { .. } => None,
            PointeeLength::Argument { source, .. } | PointeeLength::Behind(source) => Some(source),
        });
        for source in [Some(&field.source), length].into_iter().flatten() {
            if sources.iter().all(|known| known.offset != source.offset) {
                sources.push(source);
            }
        }
    }
    sources.truncate(WORDS - 2);
    sources
}

/// What the program at the exit of a call does.
struct AtExit<'a> {
    index: u32,
    plan: &'a EventPlan,
    waiting: i32,
    ring: i32,
    /// Where second records are counted for which the ring buffer has no space.
    lost: i32,
    /// Where the result is.
    result: Option<&'a Source>,
    /// Whether it is kept.
    has_result: bool,
    /// Whether a call that succeeds gives the process other memory.
    is_exec: bool,
    /// The condition on the result.
    filter: Option<(&'a BoundNode<'a>, &'a [FieldSource<'a>])>,
}

fn on_return(exit: &AtExit<'_>) -> Result<Program, BadJump> {
    let AtExit { index, plan, .. } = *exit;
    let mut asm = Assembler::default();
    let (out, forget, full) = (asm.label(), asm.label(), asm.label());
    let refused = asm.label();
    asm.mov_reg(CONTEXT, Reg::R1);
    if let Some((filter, sources)) = exit.filter {
        passes(&mut asm, filter, sources);
    }
    store_thread(&mut asm);
    asm.map_lookup(exit.waiting, KEY);
    asm.jump_if(Jump::Eq, Reg::R0, 0, out);
    asm.mov_reg(VALUE, Reg::R0);
    asm.load(Size::B8, Reg::R1, VALUE, 0);
    asm.jump_if(Jump::Ne, Reg::R1, index as i32, out);
    if exit.filter.is_some() {
        asm.jump_if(Jump::Eq, PASSES, 0, refused);
    }
    if let Some(result) = exit.result {
        load(&mut asm, result, SECOND, forget);
    }
    begin_second(&mut asm, exit.ring, plan.size as i32, full);
    let mut marks = RETURNED;
    if exit.has_result {
        marks |= HAS_RESULT;
        asm.store(Size::B8, RECORD, RESULT, SECOND);
        asm.call(Helper::KtimeGetNs);
        asm.store(Size::B8, RECORD, RETURN_TIME, Reg::R0);
    }
    asm.store_imm(Size::B4, RECORD, header::EVENT, (index | marks) as i32);
    asm.call(Helper::GetCurrentPidTgid);
    asm.store(Size::B8, RECORD, header::PID_TGID, Reg::R0);
    let arguments = arguments_of(plan);
    let words = Words::Kept(&arguments, 16);
    for field in plan.of_user() {
        let skip = asm.label();
        let to = field.at as i16;
        asm.store_imm(Size::B4, RECORD, to, UNREADABLE);
        if exit.is_exec {
            asm.jump_if(Jump::Eq, SECOND, 0, skip);
        }
        match &field.pointee {
            Some(pointee) => pointees::write_at_exit(&mut asm, field, pointee, words),
            None => {
                words.load(&mut asm, &field.source, Reg::R3);
                asm.address(Reg::R1, RECORD, i32::from(to) + 4);
                asm.mov(Reg::R2, field.capacity() as i32);
                asm.call(Helper::ProbeReadUserStr);
                asm.store(Size::B4, RECORD, to, Reg::R0);
            }
        }
        asm.place(skip);
    }
    asm.ring_submit(RECORD);
    asm.jump(forget);
    if exit.filter.is_some() {
        asm.place(refused);
        refuse(&mut asm, index, exit.ring, full);
        asm.jump(forget);
    }
    asm.place(full);
    asm.store_imm(Size::B4, Reg::Fp, KEY, 0);
    count(&mut asm, exit.lost, Adding::Plain, forget);
    asm.place(forget);
    store_thread(&mut asm);
    asm.map_delete(exit.waiting, KEY);
    asm.place(out);
    asm.mov(Reg::R0, 0);
    asm.exit();
    asm.finish()
}

/// Whether the filter holds for the result, until a record is reserved.
const PASSES: Reg = RECORD;

/// `PASSES` = 1 if the filter holds, else 0.
fn passes(asm: &mut Assembler, filter: &BoundNode<'_>, sources: &[FieldSource<'_>]) {
    let (passed, refused, done) = (asm.label(), asm.label(), asm.label());
    let mut conditions = Conditions { asm, sources };
    conditions.node(filter, passed, refused, Next::Then);
    asm.place(passed);
    asm.mov(PASSES, 1);
    asm.jump(done);
    asm.place(refused);
    asm.mov(PASSES, 0);
    asm.place(done);
}

/// `RECORD` = a second record of the call in `VALUE`, with the time of the first, which tells
/// the two apart from those of other calls.
fn begin_second(asm: &mut Assembler, ring: i32, size: i32, full: Label) {
    asm.ring_reserve(ring, size);
    asm.jump_if(Jump::Eq, Reg::R0, 0, full);
    asm.mov_reg(RECORD, Reg::R0);
    asm.load(Size::B8, Reg::R1, VALUE, 8);
    asm.store(Size::B8, RECORD, header::TIMESTAMP, Reg::R1);
}

/// Writes that the record of the call in `VALUE` is to be dropped.
fn refuse(asm: &mut Assembler, index: u32, ring: i32, full: Label) {
    begin_second(asm, ring, REFUSED_SIZE, full);
    asm.store_imm(Size::B4, RECORD, header::EVENT, (index | REFUSED) as i32);
    asm.store_imm(Size::B4, RECORD, header::CPU, 0);
    asm.call(Helper::GetCurrentPidTgid);
    asm.store(Size::B8, RECORD, header::PID_TGID, Reg::R0);
    asm.ring_submit(RECORD);
}

/// The programs at the exits of calls whose strings are read again.
#[derive(Default)]
pub(super) struct Returns {
    pub(super) programs: Attachments,
    pub(super) plan: Vec<PlannedProgram>,
    /// The map of threads, for each event whose calls have a program at their exit.
    waiting: BTreeMap<usize, Waiting>,
    /// Counts second records for which the ring buffer had no space.
    pub(super) lost: Option<PerCpuArray<MapData, u64>>,
    /// The kernel keeps it as long as a program uses it.
    map: Option<WaitingMap>,
}

impl Returns {
    /// Returns how the program of an event leaves its strings to another.
    pub(super) fn waiting_for(&self, index: usize) -> Option<Waiting> {
        self.waiting.get(&index).copied()
    }
}

impl Returns {
    /// Returns the map of threads, and that of what is lost, which are made when first needed.
    fn maps(&mut self) -> Result<(i32, i32), ProbeError> {
        let map = match self.map.take() {
            Some(map) => map,
            None => map_with_memory(|| WaitingMap::create(THREADS, 0))?,
        };
        let lost = match self.lost.take() {
            Some(lost) => lost,
            None => map_with_memory(|| PerCpuArray::create(1, 0))?,
        };
        let map = descriptor(self.map.insert(map).map());
        Ok((map, descriptor(self.lost.insert(lost).map())))
    }
}

impl ProbeBuilder {
    /// Attaches programs to the exits of those calls whose strings are kept. Before the
    /// programs at entry, so that no call returns unseen.
    pub(super) fn attach_returns(
        &self,
        plans: &[Vec<EventPlan>],
        ring: i32,
    ) -> Result<Returns, ProbeError> {
        let mut returns = Returns::default();
        for (index, (event, plans)) in self.events.iter().zip(plans).enumerate() {
            let (Probed::Event(event), [plan, ..]) = (event, plans.as_slice()) else {
                continue;
            };
            let has_result = self.has_returns(event.name());
            let awaits_writing = plan.awaits_writing();
            let are_read = awaits_writing
                || self.strings != StringReading::AtEntry && plan.of_user().next().is_some();
            if !event.kernel().is_live() || !(has_result || are_read) {
                continue;
            }
            let filter = self.return_condition_of(event.name());
            let exit = match (exit_of(event)?, filter) {
                (Some(exit), _) => exit,
                (None, None) if !awaits_writing => continue,
                (None, _) => {
                    return Err(ProbeError::NotInContext {
                        event: event.name().clone(),
                        field: RET.to_owned(),
                    });
                }
            };
            let bound = filter.map(|filter| condition_on_event(&exit, filter));
            let bound = bound.transpose()?;
            let sources = match &bound {
                Some(bound) => sources_on_event(&exit, bound)?,
                None => Vec::new(),
            };
            let (map, lost) = returns.maps()?;
            let always = has_result || awaits_writing || self.strings == StringReading::Twice;
            returns.waiting.insert(index, Waiting { map, always });
            let is_exec = matches!(exit.name().event(), "sys_exit_execve" | "sys_exit_execveat");
            let result = match has_result || is_exec || awaits_writing {
                true => Some(field(&exit, RET)?),
                false => None,
            };
            let program = on_return(&AtExit {
                index: index as u32,
                plan,
                waiting: map,
                ring,
                lost,
                result: result.as_ref(),
                has_result,
                is_exec,
                filter: bound.as_ref().map(|bound| (bound.root(), &*sources)),
            });
            let program = program.map_err(|_| ProbeError::LongProgram {
                event: exit.name().clone(),
            })?;
            returns.programs.attach(&exit, &program, 0)?;
            returns.plan.push(PlannedProgram {
                form: ProgramForm::Tp,
                section: format!("tp/{}/{}", exit.name().category(), exit.name().event()),
                events: vec![event.name().clone()],
                reason: match has_result {
                    true => PlanReason::ResultAtExit,
                    false if awaits_writing => PlanReason::WrittenAtExit,
                    false => PlanReason::StringsAtExit,
                },
            });
        }
        Ok(returns)
    }
}

impl ProbeBuilder {
    /// Returns the builder with the conditions on results apart from those on what is known
    /// when calls begin; `None` if there are none.
    pub(super) fn with_results_apart(&self) -> Result<Option<Self>, ProbeError> {
        let mut apart = None;
        for event in &self.events {
            let Probed::Event(event) = event else {
                continue;
            };
            let (name, format) = (event.name(), event.format());
            // An argument of this name is what is meant.
            if !self.has_returns(name) || format.field(RET).is_some() {
                continue;
            }
            let Some(filter) = self.condition_of(name) else {
                continue;
            };
            let (on_return, at_entry) = filter.split(|names| names.contains(&RET));
            let Some(on_return) = on_return else {
                continue;
            };
            let mut names = on_return.names().into_iter();
            let of_entry =
                names.find(|name| *name != SYSCALL_NUMBER && format.field(name).is_some());
            if let Some(field) = of_entry {
                return Err(ProbeError::MixedResult {
                    event: name.clone(),
                    field: field.to_owned(),
                });
            }
            let builder = apart.get_or_insert_with(|| self.clone());
            builder.set_results_apart(name, on_return, at_entry);
        }
        Ok(apart)
    }
}

/// The calls that never return, though the kernel has events of their exits: `do_exit()` ends
/// the thread. Their records would wait to the end of the probe, and each thread would keep its
/// place among those that can wait.
const ENDLESS: [&str; 2] = ["exit", "exit_group"];

/// Returns the event of the same call's exit, if the kernel has one and the call returns.
fn exit_of(enter: &Tracepoint) -> Result<Option<Tracepoint>, ProbeError> {
    let Some((SyscallSide::Enter, call)) = SyscallSide::and_call(enter.name()) else {
        return Ok(None);
    };
    if ENDLESS.contains(&call) {
        return Ok(None);
    }
    let name = EventName::of_directories("syscalls", &format!("sys_exit_{call}"));
    let Ok(name) = name else {
        return Ok(None);
    };
    match enter.kernel().tracepoint(&name) {
        Ok(exit) => Ok(Some(exit)),
        Err(Error::NoSuchEvent { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
