//! An object on one kernel: relocated, interpreted, and judged.

use super::BpfObject;
use super::core_types::AuditedKernel;
use super::elf::CodeAddress;
use super::facts::{ProgramFacts, ProgramKind, ReadFact};
use super::interpret::{ContextShape, FoundRead, FoundReads, Interpreter, LoadedObject, ReadFrom};
use super::judge::{EventJudge, Judgement};
use super::light;
use super::nullable::{self, NullList};
use super::own_struct::OwnStruct;
use super::program::{Attachable, BpfProgram};
use super::raw::RawJudge;
use super::relocate::{self, Relocated};
use super::shape::{EventShape, RawShape};
use super::state::Guard;
use super::verdict::{AuditedRead, ProgramAudit, SourceLine, Verdict};
use crate::btf::Kind;
use crate::error::{Error, with_causes};
use crate::name::EventName;

/// The reason for a verdict on code that is reached only under an unknown condition.
const GUARDED: &str = "whether it is reached depends on what is not known of the kernel";

/// An object relocated for a kernel.
pub(super) struct ObjectOnKernel<'a> {
    object: &'a BpfObject,
    kernel: &'a AuditedKernel,
    /// In bytes.
    pointer_size: u32,
    /// The reason why no program of the object can be on this kernel.
    absent: Option<&'static str>,
    /// The reason why libbpf does not load the object.
    fatal: Option<String>,
    /// The reason why it is not known whether the kernel loads the object.
    doubt: Option<&'static str>,
    relocated: Vec<Relocated>,
    externs: Vec<Option<u64>>,
}

/// Returns a program's reads, each with its judgement; `Err` is the verdict on the
/// whole program, with its reason.
type Judged = Result<(FoundReads, Vec<(FoundRead, Judgement)>), (Verdict, String)>;

impl<'a> ObjectOnKernel<'a> {
    pub(super) fn load(object: &'a BpfObject, kernel: &'a AuditedKernel) -> Result<Self, Error> {
        let vmlinux = kernel.kernel().vmlinux()?;
        let machine = kernel.kernel().machine().ok();
        let byte_order = match &vmlinux {
            Some(vmlinux) => Some(vmlinux.section().byte_order()),
            None => machine.map(|machine| machine.byte_order()),
        };
        let pointer_size = match (&machine, &vmlinux) {
            (_, Some(vmlinux)) => vmlinux.section().pointer_size(),
            (Some(machine), None) => machine.long_size(),
            (None, None) => 8,
        };
        let elf = &object.elf;
        let absent = if byte_order.is_some_and(|order| order != elf.byte_order) {
            Some("the object is of another byte order than the kernel")
        } else if !elf.relocations.is_empty() && vmlinux.is_none() {
            Some("the kernel has no BTF, which the object's relocations need")
        } else {
            None
        };
        let version = kernel.kernel().version()?;
        let externs = elf.externs.iter().map(|name| match name.as_str() {
            "LINUX_KERNEL_VERSION" => version.map(|version| u64::from(version.code())),
            _ => None,
        });
        let mut loaded = Self {
            object,
            kernel,
            pointer_size,
            absent,
            fatal: None,
            doubt: None,
            relocated: Vec::new(),
            externs: externs.collect(),
        };
        if object.is_light && absent.is_none() {
            match light::loaded_by(kernel, !elf.relocations.is_empty())? {
                Ok(()) => {}
                Err((Verdict::Refused, why)) => loaded.fatal = Some(why.to_owned()),
                Err((_, why)) => loaded.doubt = Some(why),
            }
        }
        if let (None, Some(own)) = (absent, &elf.btf) {
            for record in &elf.relocations {
                let relocated = relocate::relocate(own, record, elf.byte_order, kernel)?;
                if let (Relocated::Fatal(why), None) = (&relocated, &loaded.fatal) {
                    loaded.fatal = Some(why.clone());
                }
                loaded.relocated.push(relocated);
            }
        }
        Ok(loaded)
    }

    pub(super) fn program(&self, program: &BpfProgram) -> Result<ProgramAudit, Error> {
        let whole = |verdict, reason: Option<String>| ProgramAudit {
            program: program.name.clone(),
            section: program.section.clone(),
            event: program.attachable.event().map(str::to_owned),
            verdict,
            reason,
            reads: Vec::new(),
        };
        if let Some(reason) = self.absent {
            return Ok(whole(Verdict::Absent, Some(reason.to_owned())));
        }
        let judged = match &program.attachable {
            Attachable::Tracepoint(Some(event)) => self.of_event(event, program)?,
            Attachable::RawTracepoint(Some(name)) => self.of_raw(name, false, program)?,
            Attachable::TypedTracepoint(Some(name)) => self.of_raw(name, true, program)?,
            _ => {
                let reason = "the section does not say to what the program is attached";
                Err((Verdict::Unknown, reason.to_owned()))
            }
        };
        let (found, judged) = match (judged, &self.fatal) {
            (Err((verdict, reason)), _) => return Ok(whole(verdict, Some(reason))),
            (Ok(_), Some(why)) => return Ok(whole(Verdict::Refused, Some(why.clone()))),
            (Ok(judged), None) => judged,
        };
        let mut audit = whole(Verdict::Right, None);
        let worsen = |audit: &mut ProgramAudit, verdict, reason: Option<&str>| {
            if verdict > audit.verdict {
                audit.verdict = verdict;
                audit.reason = reason.map(str::to_owned);
            }
        };
        for (read, judgement) in judged {
            let judgement = guarded(judgement, &read.guards);
            worsen(&mut audit, judgement.verdict, judgement.reason.as_deref());
            let read = self.audited(read.at, read.from, read.size, judgement);
            audit.reads.push(read);
        }
        for refusal in &found.refusals {
            let refused = Judgement::of(Verdict::Refused, &refusal.why);
            let refused = Judgement {
                gets: Some("nothing".to_owned()),
                ..guarded(refused, &refusal.guards)
            };
            worsen(&mut audit, refused.verdict, refused.reason.as_deref());
            let (from, size) = (ReadFrom::ContextSomewhere, None);
            audit
                .reads
                .push(self.audited(refusal.at, from, size, refused));
        }
        for why in found.unfinished.into_iter().chain(self.doubt) {
            worsen(&mut audit, Verdict::Unknown, Some(why));
        }
        Ok(audit)
    }

    fn run(&self, shape: &dyn ContextShape, program: &BpfProgram) -> FoundReads {
        let object = LoadedObject {
            elf: &self.object.elf,
            relocated: &self.relocated,
            externs: &self.externs,
        };
        Interpreter::run(&object, shape, program.start)
    }

    fn own(&self) -> OwnStruct<'_> {
        OwnStruct(self.object.elf.btf.as_deref())
    }

    fn of_event(&self, event: &EventName, program: &BpfProgram) -> Result<Judged, Error> {
        self.on_event(event, program, |mut found, judge| {
            let reads = std::mem::take(&mut found.reads).into_iter();
            let judged = reads.map(|read| {
                let judgement = judge.judge(&read);
                (read, judgement)
            });
            let judged = judged.collect();
            (found, judged)
        })
    }

    /// Interprets a program on an event; `Err` inside is the verdict on the whole program,
    /// with its reason.
    fn on_event<T>(
        &self,
        event: &EventName,
        program: &BpfProgram,
        use_found: impl FnOnce(FoundReads, &EventJudge<'_>) -> T,
    ) -> Result<Result<T, (Verdict, String)>, Error> {
        let refused = |reason: &str| Ok(Err((Verdict::Refused, reason.to_owned())));
        let tracepoint = match self.kernel.kernel().tracepoint(event) {
            Ok(tracepoint) => tracepoint,
            Err(error @ Error::NoSuchEvent { .. }) => {
                return Ok(Err((Verdict::Absent, error.to_string())));
            }
            Err(error @ Error::EventsUnknown { .. }) => {
                return Ok(Err((Verdict::Unknown, error.to_string())));
            }
            Err(error) => return of_one_event(error),
        };
        if !tracepoint.is_listed()? {
            return refused("no program can be attached to an event that is not listed");
        }
        let context = tracepoint.context()?;
        let shape = EventShape::new(
            &tracepoint,
            &context,
            self.pointer_size,
            self.object.elf.byte_order,
            self.own(),
        );
        let shape = match shape {
            Ok(shape) => shape,
            Err(error) => return of_one_event(error),
        };
        if shape.is_probe_event {
            return refused("events of kprobes, uprobes and fprobes take no tracepoint's program");
        }
        let found = self.run(&shape, program);
        let judge = EventJudge {
            shape: &shape,
            relocated: &self.relocated,
            fields: &self.object.fields,
        };
        Ok(Ok(use_found(found, &judge)))
    }

    /// Returns the list of the kernel's verifier.
    fn null_list(&self) -> Result<NullList, Error> {
        if !self.kernel.vmlinux_has(nullable::ENTRY, Kind::Struct)? {
            return Ok(NullList::None);
        }
        let version = self.kernel.kernel().version()?;
        Ok(
            match version.is_some_and(|version| version >= nullable::MEASURED) {
                true => NullList::Known,
                false => NullList::Other,
            },
        )
    }

    fn of_raw(&self, name: &str, is_typed: bool, program: &BpfProgram) -> Result<Judged, Error> {
        self.on_raw(name, is_typed, program, |mut found, judge| {
            let reads = std::mem::take(&mut found.reads).into_iter();
            let judged = reads.filter_map(|read| {
                let judgement = judge.judge(&read)?;
                Some((read, judgement))
            });
            let judged = judged.collect();
            (found, judged)
        })
    }

    /// Interprets a program of a raw tracepoint, as [`on_event`](Self::on_event) does.
    fn on_raw<T>(
        &self,
        name: &str,
        is_typed: bool,
        program: &BpfProgram,
        use_found: impl FnOnce(FoundReads, &RawJudge<'_>) -> T,
    ) -> Result<Result<T, (Verdict, String)>, Error> {
        let (raw, home) = match self.kernel.kernel().raw_tracepoint_and_home(name) {
            Ok(found) => found,
            Err(error @ (Error::NoRawTracepoint { .. } | Error::NoBtf { .. })) => {
                return Ok(Err((Verdict::Absent, error.to_string())));
            }
            Err(error) => return Err(error),
        };
        let list = match is_typed {
            true => self.null_list()?,
            false => NullList::None,
        };
        let found = self.run(&RawShape, program);
        let judge = RawJudge {
            raw: &raw,
            home: &home,
            is_typed,
            list,
            own: self.own(),
            relocated: &self.relocated,
            fields: &self.object.fields,
        };
        Ok(Ok(use_found(found, &judge)))
    }

    /// Returns a program's reads, not yet judged. They are empty if the kernel cannot have
    /// the program, which its events and tracepoints tell.
    pub(super) fn facts(&self, program: &BpfProgram) -> Result<ProgramFacts, Error> {
        let kind = match program.attachable {
            Attachable::RawTracepoint(_) => ProgramKind::Raw,
            Attachable::TypedTracepoint(_) => ProgramKind::Typed,
            _ => ProgramKind::Tracepoint,
        };
        let of_event = |found: FoundReads, judge: &EventJudge<'_>| {
            let facts = |read| (read, judge.facts(read));
            let facts: Vec<_> = found.reads.iter().map(facts).collect();
            self.all_facts(&found, facts)
        };
        let of_raw = |found: FoundReads, judge: &RawJudge<'_>| {
            let fact = |read| (read, judge.fact(read).into_iter().collect());
            let facts: Vec<_> = found.reads.iter().map(fact).collect();
            self.all_facts(&found, facts)
        };
        let reads = match &program.attachable {
            _ if self.absent.is_some() => Ok(Vec::new()),
            Attachable::Tracepoint(Some(event)) => self.on_event(event, program, of_event)?,
            Attachable::RawTracepoint(Some(name)) => self.on_raw(name, false, program, of_raw)?,
            Attachable::TypedTracepoint(Some(name)) => self.on_raw(name, true, program, of_raw)?,
            _ => Ok(Vec::new()),
        };
        let reads = match (reads, &self.fatal) {
            (Ok(_), Some(why)) if self.absent.is_none() => {
                vec![ReadFact::decided(Verdict::Refused, Some(why))]
            }
            (Ok(reads), _) => reads,
            // The kernel's events and tracepoints tell the verdict.
            (Err(_), _) => Vec::new(),
        };
        Ok(ProgramFacts {
            program: program.name.clone(),
            section: program.section.clone(),
            kind,
            event: program.attachable.event().map(str::to_owned),
            reads,
        })
    }

    fn all_facts(
        &self,
        found: &FoundReads,
        of_reads: Vec<(&FoundRead, Vec<ReadFact>)>,
    ) -> Vec<ReadFact> {
        let place = |fact: ReadFact, at: CodeAddress| ReadFact {
            function: self
                .object
                .elf
                .function_of(at)
                .map(|function| function.name.clone()),
            instruction: at.instruction,
            ..fact
        };
        let reads = of_reads.into_iter();
        let reads =
            reads.flat_map(|(read, facts)| facts.into_iter().map(|fact| place(fact, read.at)));
        let refusals = found.refusals.iter().map(|refusal| {
            let fact = ReadFact::decided(Verdict::Refused, Some(&refusal.why));
            let fact = ReadFact {
                is_guarded: !refusal.guards.is_empty(),
                ..fact
            };
            place(fact, refusal.at)
        });
        let unfinished = found.unfinished.iter().chain(&self.doubt);
        let unfinished = unfinished.map(|why| ReadFact::decided(Verdict::Unknown, Some(why)));
        reads.chain(refusals).chain(unfinished).collect()
    }

    fn audited(
        &self,
        at: CodeAddress,
        from: ReadFrom,
        size: Option<u32>,
        judgement: Judgement,
    ) -> AuditedRead {
        let elf = &self.object.elf;
        let line = elf.line_of(at);
        let function = elf.function_of(at);
        AuditedRead {
            function: function.map(|function| function.name.clone()),
            instruction: at.instruction,
            file: line.map(|(file, _)| file.to_owned()),
            line: line.map(|(_, line)| line),
            near: elf.line_near(at).map(|(file, line)| SourceLine {
                file: file.to_owned(),
                line,
            }),
            offset: match from {
                ReadFrom::Context(pointer) => Some(pointer.offset),
                _ => None,
            },
            size,
            path: judgement.path,
            wants: judgement.wants,
            gets: judgement.gets,
            verdict: judgement.verdict,
            reason: judgement.reason,
            mend: judgement.mend,
        }
    }
}

/// Converts an error: an event that cannot be read is unknown, any other error is the
/// caller's.
fn of_one_event<T>(error: Error) -> Result<Result<T, (Verdict, String)>, Error> {
    match error.is_of_one_event() {
        true => Ok(Err((Verdict::Unknown, with_causes(&error)))),
        false => Err(error),
    }
}

/// Weakens the judgement of code that is reached only under an unknown condition.
fn guarded(judgement: Judgement, guards: &[Guard]) -> Judgement {
    if guards.is_empty() || !judgement.verdict.is_fault() {
        return judgement;
    }
    let reason = match judgement.reason {
        Some(reason) => format!("{reason}; {GUARDED}"),
        None => GUARDED.to_owned(),
    };
    Judgement {
        verdict: Verdict::Unknown,
        reason: Some(reason),
        ..judgement
    }
}
