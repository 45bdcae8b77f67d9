//! Debian's tools on the running kernel, as they are and with their loads changed at
//! random: it takes what is not called refused, and refuses what is.

use aya::Btf;
use object::read::elf::ElfFile64;
use object::{Endianness, Object, ObjectSection};
use tracepoints::audit::{Attachable, AuditedKernel, BpfObject, ProgramAudit, Verdict};
use tracepoints::{EventName, Kernel};

use super::running_kernel::{Agreement, attach, load};
use super::tools::embedded;
use crate::support::live::live;

/// Opcodes of loads of 1, 2, 4 and 8 bytes from memory.
const LOADS: [u8; 4] = [0x71, 0x69, 0x61, 0x79];

/// Returns how many changes to make; each loads and attaches a program, which takes some
/// 30 ms.
fn changes() -> usize {
    match std::env::var_os("TRACEPOINTS_ALL_LOADS") {
        Some(_) => 1200,
        None => 300,
    }
}

/// A generator of numbers, the same in each run (xorshift64*).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// An object without CO-RE relocations, as aya's are: what its instructions say is what
/// they do.
fn without_relocations(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let start = {
        let elf = ElfFile64::<Endianness>::parse(&*bytes).expect("an ELF file");
        let section = elf.section_by_name(".BTF.ext");
        section.and_then(|section| section.file_range())
    };
    if let Some((start, _)) = start {
        // `core_relo_len` of struct btf_ext_header.
        let at = start as usize + 28;
        bytes[at..at + 4].fill(0);
    }
    bytes
}

/// Where a program loads from its context, as places in the file.
fn loads(bytes: &[u8], audit: &ProgramAudit) -> Vec<usize> {
    let elf = ElfFile64::<Endianness>::parse(bytes).expect("an ELF file");
    let section = elf.section_by_name(audit.section());
    let Some((start, size)) = section.and_then(|section| section.file_range()) else {
        return Vec::new();
    };
    let own = audit
        .reads()
        .iter()
        .filter(|read| read.function().is_none_or(|name| name == audit.program()));
    let places = own.map(|read| u64::from(read.instruction()) * 8);
    let places = places
        .filter(|at| *at < size)
        .map(|at| (start + at) as usize);
    let mut places: Vec<usize> = places.filter(|at| LOADS.contains(&bytes[*at])).collect();
    places.dedup();
    places
}

/// The objects of the tools, each once: most tools embed one.
fn objects() -> Vec<(String, Vec<u8>)> {
    let mut objects: Vec<(String, Vec<u8>)> = Vec::new();
    for (tool, found) in embedded() {
        for bytes in found {
            if objects.iter().all(|(_, known)| *known != bytes) {
                objects.push((tool.clone(), bytes));
            }
        }
    }
    objects
}

/// What the kernel has to say of a program whose read this is.
fn expected(audit: &ProgramAudit) -> Verdict {
    match audit.verdict() {
        // Sources say nothing of what they mean by a changed load, and loading does not
        // depend on it.
        Verdict::Unknown | Verdict::Wrong => Verdict::Right,
        verdict => verdict,
    }
}

/// A program of a tool without relocations, which the kernel takes as it is.
struct Sample {
    what: String,
    bytes: Vec<u8>,
    program: usize,
    loads: Vec<usize>,
}

/// Loads and attaches one program of an object, and tells that apart from an audit of it.
fn compare(
    sample: &Sample,
    bytes: &[u8],
    event: Option<&EventName>,
    (kernel, btf): (&AuditedKernel, &Btf),
) -> (Verdict, Result<(), String>) {
    let mut object = BpfObject::parse(bytes).expect("an object");
    let name = object.programs()[sample.program].name().to_owned();
    if let Some(event) = event {
        object.attach(&name, event).expect("it has this program");
    }
    let audit = &object.audit_on(kernel).expect("a whole kernel")[sample.program];
    let said = load(bytes, None);
    let program = &object.programs()[sample.program];
    let said = said.and_then(|mut loaded| attach(&mut loaded, program, btf));
    (expected(audit), said)
}

#[test]
fn tools_load_as_they_are_judged_however_changed() {
    let Some(kernel) = live() else { return };
    let objects = objects();
    let (false, Ok(btf)) = (objects.is_empty(), Btf::from_sys_fs()) else {
        return;
    };
    let events = events(&kernel);
    let kernel = AuditedKernel::new(&kernel);
    let mut whole = Agreement::default();
    let mut samples = Vec::new();
    for (tool, bytes) in &objects {
        let object = BpfObject::parse(bytes).expect("a sound object");
        let bare = without_relocations(bytes);
        let audits = object.audit_on(&kernel).expect("a whole kernel");
        for (at, (program, audit)) in object.programs().iter().zip(&audits).enumerate() {
            let Attachable::Tracepoint(Some(_)) = program.attachable() else {
                continue;
            };
            let said = load(bytes, Some(&btf));
            let said = said.and_then(|mut loaded| attach(&mut loaded, program, &btf));
            let what = format!("{tool} {}", program.name());
            whole.add(
                &format!("{what}: {:?}", audit.reason()),
                audit.verdict(),
                said,
            );
            let sample = Sample {
                what,
                bytes: bare.clone(),
                program: at,
                loads: loads(&bare, audit),
            };
            let (verdict, said) = compare(&sample, &bare, None, (&kernel, &btf));
            if !sample.loads.is_empty() && verdict == Verdict::Right && said.is_ok() {
                samples.push(sample);
            }
        }
    }
    eprintln!(
        "as they are: {:?}; {} to change",
        whole.counts,
        samples.len()
    );
    assert_eq!(whole.disagreements, [] as [&str; 0]);
    assert!(samples.len() >= 20, "{}", samples.len());

    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut changed = Agreement::default();
    for _ in 0..changes() {
        let sample = &samples[numbers.below(samples.len())];
        let mut bytes = sample.bytes.clone();
        let at = sample.loads[numbers.below(sample.loads.len())];
        let mut event = None;
        match numbers.below(4) {
            0 => event = Some(&events[numbers.below(events.len())]),
            1 => bytes[at] = LOADS[numbers.below(LOADS.len())],
            _ => {
                let offset = numbers.below(96) as i16 - 8;
                bytes[at] = LOADS[numbers.below(LOADS.len())];
                bytes[at + 2..at + 4].copy_from_slice(&offset.to_le_bytes());
            }
        }
        let (verdict, said) = compare(sample, &bytes, event, (&kernel, &btf));
        let change = format!(
            "{}: {:x?} at {at} {}",
            sample.what,
            &bytes[at..at + 4],
            event.map(EventName::to_string).unwrap_or_default()
        );
        changed.add(&change, verdict, said);
    }
    eprintln!("changed: {:?}", changed.counts);
    assert_eq!(changed.disagreements, [] as [&str; 0]);
    let sum: u32 = changed.counts.values().sum();
    assert_eq!(sum as usize, changes());
}

/// Events of which few happen on a machine at rest.
fn events(kernel: &Kernel) -> Vec<EventName> {
    let events = kernel.events().expect("events");
    let categories = ["syscalls", "ext4", "block"];
    let names = events.names().iter();
    names
        .filter(|name| categories.contains(&name.category()))
        .cloned()
        .collect()
}
