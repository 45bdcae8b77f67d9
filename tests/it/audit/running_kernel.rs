//! The running kernel agrees: it loads and attaches what is called right, and not what is
//! called refused.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use aya::programs::Program;
use aya::{Btf, Ebpf, EbpfLoader};
use tracepoints::audit::{Attachable, AuditedKernel, BpfObject, BpfProgram, Verdict};
use tracepoints::probe::{ArgumentNullness, nullable_arguments};
use tracepoints::{ByteOrder, EventName};

use crate::support::cases::{cases, clang};
use crate::support::live::live;
use crate::support::skip;

/// Loads and attaches a program of an object, and detaches it again; `Err` is what the
/// kernel or the loader says against it.
pub(super) fn attach(loaded: &mut Ebpf, program: &BpfProgram, btf: &Btf) -> Result<(), String> {
    let said = |error: &dyn std::error::Error| {
        let causes = std::iter::successors(Some(error), |error| error.source());
        let causes: Vec<String> = causes.map(ToString::to_string).collect();
        let text = causes.join(": ");
        let last = text.lines().rev().find(|line| line.len() > 4);
        format!(
            "{} … {}",
            &text[..text.len().min(60)],
            last.unwrap_or_default()
        )
    };
    let found = loaded
        .program_mut(program.name())
        .ok_or("no such program")?;
    match (found, program.attachable()) {
        (Program::TracePoint(found), Attachable::Tracepoint(Some(event))) => {
            found.load().map_err(|error| said(&error))?;
            let link = found.attach(event.category(), event.event());
            found.detach(link.map_err(|error| said(&error))?)
        }
        (Program::RawTracePoint(found), Attachable::RawTracepoint(Some(name))) => {
            found.load().map_err(|error| said(&error))?;
            let link = found.attach(name);
            found.detach(link.map_err(|error| said(&error))?)
        }
        (Program::BtfTracePoint(found), Attachable::TypedTracepoint(Some(name))) => {
            found.load(name, btf).map_err(|error| said(&error))?;
            let link = found.attach();
            found.detach(link.map_err(|error| said(&error))?)
        }
        _ => return Err("of another kind".to_owned()),
    }
    .map_err(|error| said(&error))
}

pub(super) fn load(bytes: &[u8], btf: Option<&Btf>) -> Result<Ebpf, String> {
    let mut loader = EbpfLoader::new();
    loader.btf(btf);
    loader.load(bytes).map_err(|error| {
        let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source());
        let causes: Vec<String> = causes.map(ToString::to_string).collect();
        causes.join(": ")
    })
}

/// Counts verdicts, and what the kernel says against them.
#[derive(Default)]
pub(super) struct Agreement {
    pub(super) counts: BTreeMap<Verdict, u32>,
    pub(super) disagreements: Vec<String>,
}

impl Agreement {
    pub(super) fn add(&mut self, what: &str, verdict: Verdict, said: Result<(), String>) {
        let agrees = match verdict {
            // What is wrong is wrong because nobody refuses it.
            Verdict::Right | Verdict::Wrong => said.is_ok(),
            Verdict::Refused => said.is_err(),
            _ => return,
        };
        *self.counts.entry(verdict).or_default() += 1;
        if !agrees {
            self.disagreements
                .push(format!("{what} is {verdict}: {said:?}"));
        }
    }
}

/// The cases of `tests/fixtures/audit`, whichever kernels they were written for.
#[test]
fn cases_load_as_they_are_judged() {
    let Some(kernel) = live() else { return };
    let (Some(clang), Ok(btf)) = (clang(), Btf::from_sys_fs()) else {
        return;
    };
    let kernel = AuditedKernel::new(&kernel);
    let mut agreement = Agreement::default();
    for case in cases("faults.bpf.c")
        .into_iter()
        .chain(cases("right.bpf.c"))
    {
        let bytes = clang.compile(&case.name, &case.code, ByteOrder::NATIVE);
        let object = BpfObject::parse(&bytes).expect("an object");
        let audits = object.audit_on(&kernel).expect("a whole kernel");
        for (program, audit) in object.programs().iter().zip(&audits) {
            // The first two hand on to what is no map, which the verifier refuses for its own
            // reasons; the loader of this test does not know arrays of no length.
            if [
                "copy_handed_on",
                "copy_of_the_context",
                "struct_that_is_right_on_rt",
            ]
            .contains(&&*case.name)
            {
                continue;
            }
            let said = load(&bytes, Some(&btf));
            let said = said.and_then(|mut loaded| attach(&mut loaded, program, &btf));
            let what = format!("{}: {:?}", case.name, audit.reason());
            agreement.add(&what, audit.verdict(), said);
        }
    }
    eprintln!("{:?}", agreement.counts);
    assert_eq!(agreement.disagreements, [] as [&str; 0]);
    assert!(
        agreement.counts[&Verdict::Right] >= 15,
        "{:?}",
        agreement.counts
    );
    assert!(
        agreement.counts[&Verdict::Refused] >= 10,
        "{:?}",
        agreement.counts
    );
}

/// Loads of every size and at many offsets: the kernel takes those that are not called
/// refused. With `TRACEPOINTS_ALL_LOADS` set at every offset of three events, which takes
/// a minute.
#[test]
fn loads_of_every_size_and_place() {
    let Some(kernel) = live() else { return };
    let Ok(btf) = Btf::from_sys_fs() else { return };
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/audit/loads.bpf.o"
    );
    let bytes = fs::read(path).expect("an object");
    // The one instruction that loads, as the compiler wrote it: r1 = *(u8 *)(r1 + 8).
    let written = [0x71, 0x11, 8, 0, 0, 0, 0, 0];
    let at = bytes
        .windows(8)
        .position(|window| window == written)
        .expect("a load");
    let kernel = AuditedKernel::new(&kernel);
    let mut agreement = Agreement::default();
    let edges = [
        -8, -4, -2, -1, 0, 4, 7, 8, 9, 10, 12, 24, 32, 33, 36, 40, 8184, 8192,
    ];
    let all: Vec<i16> = (-16..80).chain(8176..8200).collect();
    let (events, offsets): (&[&str], &[i16]) = match std::env::var_os("TRACEPOINTS_ALL_LOADS") {
        Some(_) => (
            &[
                "sched:sched_process_exit",
                "syscalls:sys_enter_openat",
                "syscalls:sys_exit_openat",
            ],
            &all,
        ),
        None => (&["sched:sched_process_exit"], &edges),
    };
    for event in events {
        let event: EventName = event.parse().expect("a name");
        let opcodes = [0x71u8, 0x69, 0x61, 0x79].into_iter();
        for (opcode, &offset) in
            opcodes.flat_map(|opcode| offsets.iter().map(move |at| (opcode, at)))
        {
            let mut bytes = bytes.clone();
            bytes[at] = opcode;
            bytes[at + 2..at + 4].copy_from_slice(&offset.to_le_bytes());
            let mut object = BpfObject::parse(&bytes).expect("an object");
            object.attach("loads", &event).expect("a program");
            let audit = &object.audit_on(&kernel).expect("a whole kernel")[0];
            let said = load(&bytes, None);
            let program = &object.programs()[0];
            let said = said.and_then(|mut loaded| attach(&mut loaded, program, &btf));
            // The source says nothing of what it means by a load that is not refused.
            let verdict = match audit.verdict() {
                Verdict::Unknown => Verdict::Right,
                verdict => verdict,
            };
            agreement.add(&format!("{event} {opcode:#x} {offset}"), verdict, said);
        }
    }
    eprintln!("{:?}", agreement.counts);
    assert_eq!(agreement.disagreements, [] as [&str; 0]);
    let sum: u32 = agreement.counts.values().sum();
    assert_eq!(sum as usize, events.len() * 4 * offsets.len());
}

/// The verifier's list of arguments that may be NULL is not in BTF: the entries known here are
/// those of the running kernel, each found by a program that loads from it unchecked.
#[test]
fn arguments_that_may_be_null_are_known() {
    let Some(kernel) = live() else { return };
    let Some(clang) = clang() else { return };
    // Asking takes some milliseconds for each tracepoint.
    let is_all = std::env::var_os("TRACEPOINTS_ALL_LOADS").is_some();
    let some = [
        "kfree_skb",
        "sched_pi_setprio",
        "tcp_send_reset",
        "xfs_map_blocks_alloc",
    ];
    let mut listed = BTreeSet::new();
    for (index, name) in kernel
        .raw_tracepoint_names()
        .expect("BTF")
        .into_iter()
        .enumerate()
    {
        if !is_all && !index.is_multiple_of(16) && !some.contains(&&*name) {
            continue;
        }
        let raw = kernel.raw_tracepoint(&name).expect("a tracepoint");
        if raw.home() != "vmlinux" {
            continue;
        }
        let Some(asked) = nullable_arguments(&kernel, &name).expect("it is there") else {
            return skip("this kernel has no list of arguments that may be NULL");
        };
        for (index, (argument, nullness)) in asked.iter().enumerate() {
            if *nullness == ArgumentNullness::MayBeNull && !argument.ends_with("__nullable") {
                listed.insert((name.clone(), index));
            }
        }
    }
    // What the audit says of programs that load from each argument of these tracepoints.
    let names: BTreeSet<&String> = listed.iter().map(|(name, _)| name).collect();
    let mut code = String::new();
    for name in names {
        let raw = kernel.raw_tracepoint(name).expect("a tracepoint");
        for index in 0..raw.arguments().len() {
            code += &format!(
                "SEC(\"tp_btf/{name}\") int {name}_{index}(u64 *ctx) {{ use(*(u8 *)ctx[{index}]); return 0; }}\n"
            );
        }
    }
    let object = clang.compile("listed", &code, ByteOrder::NATIVE);
    let object = BpfObject::parse(&object).expect("an object");
    let mut known = BTreeSet::new();
    for audit in object.audit(&kernel).expect("a kernel") {
        let is_listed = |reason: &str| reason.contains("raw_tp_null_args");
        if audit.reason().is_some_and(is_listed) {
            assert_eq!(audit.verdict(), Verdict::Refused);
            let (name, index) = audit.program().rsplit_once('_').expect("an index");
            known.insert((name.to_owned(), index.parse().expect("a number")));
        }
    }
    assert_eq!(known, listed);
    eprintln!("{} arguments may be NULL", listed.len());
}
