//! Small objects with one fault each, and right ones, compiled where there is a clang that
//! knows eBPF. `tests/fixtures/audit` has the sources, each with the verdict expected.

use std::fs;
use std::path::Path;

use tracepoints::audit::{BpfObject, ProgramAudit, Verdict};
use tracepoints::{ByteOrder, Kernel};

use crate::support::cases::{Case, Clang, cases, clang, sources};
use crate::support::{corpus, fixture, name};

/// A kernel with one event whose text is relative.
fn relative(dir: &Path) -> Kernel {
    let event = dir.join("tracing/events/sample/relative");
    fs::create_dir_all(&event).expect("directories");
    fs::write(dir.join("tracing/available_events"), "sample:relative\n").expect("a file");
    let format = "name: relative\nID: 7\nformat:\n\
        \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
        \tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n\
        \tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;\n\
        \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\
        \tfield:__rel_loc char[] name;\toffset:8;\tsize:4;\tsigned:0;\n\n\
        print fmt: \"%s\", __get_rel_str(name)\n";
    fs::write(event.join("format"), format).expect("a file");
    let kernel = Kernel::at(dir).expect("a kernel");
    kernel.with_byte_order(ByteOrder::Little)
}

/// The kernel of a case, and the byte order to compile in; `None` where it is one of the
/// corpus, and there is none.
fn kernel_of(case: &Case, made: &Path) -> Option<(Kernel, ByteOrder)> {
    let (root, byte_order) = match case.kernel.split_once(' ') {
        Some((root, "little")) => (fixture(root), ByteOrder::Little),
        Some(("corpus", wanted)) => {
            let mut kernels = corpus().into_iter();
            let found = kernels.find(|kernel| name(kernel) == wanted)?;
            (found, ByteOrder::Little)
        }
        Some(_) => panic!("{} is no kernel", case.kernel),
        None if case.kernel == "rel_loc" => return Some((relative(made), ByteOrder::Little)),
        None if case.kernel.ends_with("s390x") => (fixture(&case.kernel), ByteOrder::Big),
        None => (fixture(&case.kernel), ByteOrder::Little),
    };
    let kernel = Kernel::at(&root).expect("a kernel");
    let kernel = match byte_order {
        // A 32-bit kernel without BTF does not say.
        ByteOrder::Little if case.kernel.ends_with("i686") => kernel.with_byte_order(byte_order),
        _ => kernel,
    };
    Some((kernel, byte_order))
}

/// The object with relocations that ask whether a type matches in place of those that ask
/// whether it exists, which compilers before clang 16 cannot make. Little-endian.
pub(super) fn matching(mut object: Vec<u8>) -> Vec<u8> {
    const TYPE_EXISTS: u32 = 8;
    const TYPE_MATCHES: u32 = 12;
    let word = |object: &[u8], at: usize| {
        u32::from_le_bytes(object[at..at + 4].try_into().expect("four bytes"))
    };
    // The header of .BTF.ext: magic, version, flags, length.
    let header = [0x9f, 0xeb, 1, 0, 32, 0, 0, 0];
    let start = object.windows(8).position(|bytes| bytes == header);
    let start = start.expect("a section .BTF.ext");
    let mut at = start + 32 + word(&object, start + 24) as usize;
    let end = at + word(&object, start + 28) as usize;
    let record = word(&object, at) as usize;
    at += 4;
    let mut changed = 0;
    while at < end {
        let records = word(&object, at + 4) as usize;
        at += 8;
        for kind in (at + 12..).step_by(record).take(records) {
            if word(&object, kind) == TYPE_EXISTS {
                object[kind..kind + 4].copy_from_slice(&TYPE_MATCHES.to_le_bytes());
                changed += 1;
            }
        }
        at += record * records;
    }
    assert!(changed > 0, "no relocation asks for a type");
    object
}

fn audit(clang: &Clang, case: &Case, made: &Path) -> Option<ProgramAudit> {
    let (kernel, byte_order) = kernel_of(case, made)?;
    let bytes = clang.compile(&case.name, &case.code, byte_order);
    let bytes = match case.code.contains("type_matches(") {
        true => matching(bytes),
        false => bytes,
    };
    let object = BpfObject::parse(&bytes).unwrap_or_else(|error| panic!("{}: {error}", case.name));
    let audits = object.audit(&kernel).expect("a whole kernel");
    assert_eq!(audits.len(), 1, "{}", case.name);
    audits.into_iter().next()
}

fn check(file: &str, at_least: usize) {
    let Some(clang) = clang() else { return };
    let made = tempfile::tempdir().expect("a directory");
    let mut differences = Vec::new();
    let mut checked = 0;
    for case in cases(file) {
        let Some(audit) = audit(&clang, &case, made.path()) else {
            continue;
        };
        checked += 1;
        let said = |reason: Option<&str>| reason.is_some_and(|text| text.contains(&case.reason));
        let mut reads = audit.reads().iter();
        let has_reason =
            case.reason.is_empty() || said(audit.reason()) || reads.any(|read| said(read.reason()));
        if audit.verdict().as_str() != case.verdict || !has_reason {
            differences.push(format!("{case:?}: {audit:#?}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert!(checked >= at_least, "{checked} cases of {file}");
}

#[test]
fn each_fault_is_found_and_named() {
    check("faults.bpf.c", 45);
}

#[test]
fn nothing_is_found_where_all_is_right() {
    check("right.bpf.c", 29);
}

/// What is said of a read: its place, its line, what it wants and gets, and what to read
/// instead.
#[test]
fn a_read_is_said_in_full() {
    let object = fs::read(sources().join("openat.bpf.o")).expect("an object");
    let object = BpfObject::parse(&object).expect("an object");
    let kernel = Kernel::at(fixture("6.1.192-rt-x86_64")).expect("a kernel");
    let audits = object.audit(&kernel).expect("a whole kernel");
    let json = serde_json::to_string_pretty(&audits).expect("JSON");
    let read: Vec<ProgramAudit> = serde_json::from_str(&json).expect("the same audits");
    assert_eq!(read, audits);
    insta::assert_snapshot!(json);
}

/// A read that was inlined from another file comes with a line of the program's own.
#[test]
fn an_inlined_read_is_near_its_call() {
    let Some(clang) = clang() else { return };
    let code = "\
#line 5 \"helper.h\"
static __attribute__((always_inline)) long second(struct trace_event_raw_sys_enter *ctx)
{
	return ctx->args[1];
}
#line 20 \"inlined.c\"
SEC(\"tracepoint/syscalls/sys_enter_openat\")
int openat(struct trace_event_raw_sys_enter *ctx)
{
	use(ctx->args[0]);
	use(bpf_ktime_get_ns());
	use(second(ctx));
	return 0;
}
";
    let object = clang.compile("inlined", code, ByteOrder::Little);
    let object = BpfObject::parse(&object).expect("an object");
    let kernel = Kernel::at(fixture("6.18.15-x86_64")).expect("a kernel");
    let audits = object.audit(&kernel).expect("a whole kernel");
    let [own, inlined] = audits[0].reads() else {
        panic!("{audits:#?}");
    };
    let (file, line) = own.line().expect("a line");
    assert!(file.ends_with("inlined.c"), "{file}");
    assert_eq!((line, own.near()), (23, None));
    let (file, line) = inlined.line().expect("a line");
    assert!(file.ends_with("helper.h"), "{file}");
    assert_eq!(line, 7);
    let near = inlined.near().expect("a line of its own file");
    assert!(near.file.ends_with("inlined.c"), "{near:?}");
    assert!((24..=25).contains(&near.line), "{near:?}");
}

/// The object of the repository is what its source compiles to.
#[test]
fn the_object_kept_is_of_its_source() {
    let Some(clang) = clang() else { return };
    let source = fs::read_to_string(sources().join("openat.bpf.c")).expect("a source");
    let compiled = clang.compile("openat", &source, ByteOrder::Little);
    let kept = fs::read(sources().join("openat.bpf.o")).expect("an object");
    let reads = |bytes: &[u8]| {
        let object = BpfObject::parse(bytes).expect("an object");
        let kernel = Kernel::at(fixture("6.1.192-rt-x86_64")).expect("a kernel");
        let audits = object.audit(&kernel).expect("a whole kernel");
        let read = &audits[0].reads()[0];
        assert_eq!(audits[0].verdict(), Verdict::Wrong);
        (
            read.instruction(),
            read.offset(),
            read.size(),
            read.line().map(|line| line.1),
        )
    };
    assert_eq!(reads(&compiled), reads(&kept));
}

/// Constants that a loader sets decide what is looked at.
#[test]
fn constants_can_be_set() {
    let Some(clang) = clang() else { return };
    let mut cases = cases("right.bpf.c").into_iter();
    let case = cases
        .find(|case| case.name == "constant_guards")
        .expect("it is there");
    let bytes = clang.compile(&case.name, &case.code, ByteOrder::Little);
    let mut object = BpfObject::parse(&bytes).expect("an object");
    let kernel = Kernel::at(fixture("6.18.15-x86_64")).expect("a kernel");
    let verdict = |object: &BpfObject| object.audit(&kernel).expect("a kernel")[0].verdict();
    assert_eq!(verdict(&object), Verdict::Right);
    object
        .set_constant("is_old", &1u32.to_le_bytes())
        .expect("it has one");
    assert_eq!(verdict(&object), Verdict::Refused);
    assert!(
        object.set_constant("is_old", &[1]).is_err(),
        "of another size"
    );
    assert!(
        object.set_constant("prog", &[0; 4]).is_err(),
        "not a constant"
    );
}

/// A program without an event in its section can be given one.
#[test]
fn programs_can_be_attached_by_hand() {
    let bytes = fs::read(sources().join("openat.bpf.o")).expect("an object");
    let mut object = BpfObject::parse(&bytes).expect("an object");
    let kernel = Kernel::at(fixture("6.1.192-rt-x86_64")).expect("a kernel");
    let event = "syscalls:sys_enter_write".parse().expect("a name");
    object.attach("openat", &event).expect("a program");
    let audits = object.audit(&kernel).expect("a kernel");
    assert_eq!(audits[0].event(), Some("syscalls:sys_enter_write"));
    assert!(object.attach("close", &event).is_err());
}
