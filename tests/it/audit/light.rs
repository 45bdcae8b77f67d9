//! Light skeletons, made by bpftool, against the objects they were made of.

use std::collections::HashMap;
use std::fs;
use std::process::Command;

use serde_json::Value;
use tracepoints::audit::{AuditedKernel, BpfObject, BpfObjectError, ProgramAudit, Verdict};
use tracepoints::{ByteOrder, Kernel};

use super::cases::matching;
use crate::support::capture::Capture;
use crate::support::cases::{Clang, cases, clang, sources};
use crate::support::{fixture, skip};

/// A light skeleton: the loader's instructions and its data.
struct Skeleton {
    header: String,
    instructions: Vec<u8>,
    data: Vec<u8>,
}

/// What bpftool makes of an object; `None` if it cannot.
fn skeleton(object: &[u8]) -> Option<Skeleton> {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("tool.bpf.o");
    fs::write(&path, object).expect("a file");
    let made = Command::new("bpftool")
        .args(["gen", "skeleton", "-L"])
        .arg(&path)
        .output();
    let made = made.ok().filter(|output| output.status.success())?;
    let header = String::from_utf8(made.stdout).expect("UTF-8");
    Some(Skeleton {
        instructions: string(&header, "opts.insns = (void *)\""),
        data: string(&header, "opts.data = (void *)\""),
        header,
    })
}

/// The bytes of a C string after this text, whose escapes are those that bpftool writes.
fn string(header: &str, before: &str) -> Vec<u8> {
    let (_, text) = header.split_once(before).expect("a string");
    let (text, _) = text.split_once("\";").expect("its end");
    let text = text.replace("\\\n", "");
    let mut bytes = Vec::new();
    let mut text = text.as_bytes();
    while let [first, rest @ ..] = text {
        text = rest;
        match (first, rest) {
            (b'\\', [b'x', high, low, rest @ ..]) => {
                let digits = [*high, *low];
                let digits = str::from_utf8(&digits).expect("digits");
                bytes.push(u8::from_str_radix(digits, 16).expect("a number"));
                text = rest;
            }
            (b'\\', [b'0', rest @ ..]) => {
                bytes.push(0);
                text = rest;
            }
            _ => bytes.push(*first),
        }
    }
    bytes
}

impl Skeleton {
    /// The only object in a file with the skeleton.
    fn object(&self) -> BpfObject {
        let file = [b"a tool", &self.instructions[..], b"x", &self.data, b"y"].concat();
        let found = BpfObject::find(&file);
        let [found] = &found[..] else {
            panic!("{found:?}");
        };
        assert_eq!(found.offset(), 6);
        let object = found.object().expect("a sound skeleton");
        assert!(object.is_light_skeleton());
        object.clone()
    }
}

const TWO: &str = "\
SEC(\"tracepoint/syscalls/sys_enter_openat\")
int openat(struct trace_event_raw_sys_enter *ctx)
{
	use(ctx->args[1]);
	return 0;
}

static noinline u64 second(struct trace_event_raw_sys_exit *ctx)
{
	use(bpf_ktime_get_ns());
	return ctx->ret;
}

SEC(\"tp/syscalls/sys_exit_openat\")
int a_name_longer_than_the_kernel_keeps(struct trace_event_raw_sys_exit *tp)
{
	use(second(tp));
	return 0;
}

SEC(\"tp_btf/sched_wakeup\")
int typed(u64 *ctx)
{
	use(ctx[0]);
	return 0;
}

SEC(\"raw_tp/sched_switch\")
int raw(u64 *ctx)
{
	use(ctx[4]);
	return 0;
}
";

/// The audits of an object and of its skeleton on a kernel.
fn audits(object: &BpfObject, light: &BpfObject, kernel: &AuditedKernel) -> [Vec<ProgramAudit>; 2] {
    [object, light].map(|object| object.audit_on(kernel).expect("a whole kernel"))
}

/// All that audits say, but for the places of instructions: functions that a program calls are
/// behind it in a skeleton.
fn said(audits: &[ProgramAudit]) -> Value {
    let mut said = serde_json::to_value(audits).expect("JSON");
    for audit in said.as_array_mut().into_iter().flatten() {
        let reads = audit["reads"].as_array_mut().expect("reads");
        for read in reads.iter_mut() {
            read.as_object_mut().expect("a read").remove("instruction");
        }
        reads.sort_by_cached_key(Value::to_string);
    }
    said
}

/// A fixture that says its version, as one whose BTF is an excerpt has to.
fn with_version(name: &str) -> Capture {
    let capture = Capture::copy_of(&fixture(name));
    let proc = capture.root().join("proc");
    fs::create_dir_all(&proc).expect("a directory");
    let text = format!("Linux version {name} (a@b) #1\n");
    fs::write(proc.join("version"), text).expect("a file");
    capture
}

/// All that an audit says is the same, for each case that bpftool makes a skeleton of.
#[test]
fn the_audit_is_that_of_the_object() {
    let Some(clang) = clang() else { return };
    let mut kernels: HashMap<String, (Capture, AuditedKernel)> = HashMap::new();
    let (mut compared, mut refused) = (0, Vec::new());
    for case in ["faults.bpf.c", "right.bpf.c"].into_iter().flat_map(cases) {
        if !case.kernel.ends_with("x86_64") || case.kernel.contains(' ') {
            continue;
        }
        let bytes = clang.compile(&case.name, &case.code, ByteOrder::Little);
        let bytes = match case.code.contains("type_matches(") {
            true => matching(bytes),
            false => bytes,
        };
        let Some(skeleton) = skeleton(&bytes) else {
            refused.push(case.name);
            continue;
        };
        let object = BpfObject::parse(&bytes).expect("an object");
        let (_, kernel) = kernels.entry(case.kernel.clone()).or_insert_with(|| {
            let capture = with_version(&case.kernel);
            let kernel = AuditedKernel::new(&Kernel::at(capture.root()).expect("a kernel"));
            (capture, kernel)
        });
        let [of_object, of_light] = audits(&object, &skeleton.object(), kernel);
        if case.kernel.starts_with("5.10") && object.has_relocations() {
            continue;
        }
        assert_eq!(said(&of_object), said(&of_light), "{}", case.name);
        compared += 1;
    }
    if compared == 0 {
        return skip("there is no bpftool that writes light skeletons");
    }
    eprintln!("{compared} compared, bpftool refuses {refused:?}");
    assert!(compared >= 60, "{compared}, bpftool refuses {refused:?}");
}

fn two(clang: &Clang) -> Option<(BpfObject, Skeleton)> {
    let bytes = clang.compile("two", TWO, ByteOrder::Little);
    let Some(skeleton) = skeleton(&bytes) else {
        skip("there is no bpftool that writes light skeletons");
        return None;
    };
    let object = BpfObject::parse(&bytes).expect("an object");
    Some((object, skeleton))
}

/// Which of several programs is in which section, only the order of the names tells; the
/// target of `tp_btf` is in the data, and the only raw tracepoint is the raw program's.
#[test]
fn sections_of_several_programs() {
    let Some((object, skeleton)) = clang().and_then(|clang| two(&clang)) else {
        return;
    };
    let light = skeleton.object();
    let of = |object: &BpfObject| {
        let programs = object.programs().iter();
        let names =
            programs.map(|program| (program.name().to_owned(), program.section().to_owned()));
        names.collect::<Vec<_>>()
    };
    assert_eq!(of(&object), of(&light));
    let inferred: Vec<bool> = light
        .programs()
        .iter()
        .map(|program| program.is_section_inferred())
        .collect();
    assert_eq!(inferred, [true, true, false, false]);
    let capture = with_version("6.18.15-x86_64");
    let kernel = AuditedKernel::new(&Kernel::at(capture.root()).expect("a kernel"));
    let [of_object, of_light] = audits(&object, &light, &kernel);
    assert_eq!(said(&of_object), said(&of_light));
    assert_eq!(of_light.len(), 4);
}

/// Where one section is not behind its program's name, the order is not LLVM's, and tells of none.
/// The events can be given.
#[test]
fn sections_that_the_order_does_not_tell() {
    let Some((_, mut skeleton)) = clang().and_then(|clang| two(&clang)) else {
        return;
    };
    // The name before a section is no function's.
    let place = |data: &[u8], name: &[u8]| {
        let mut places = data.windows(name.len()).enumerate();
        places
            .find(|(_, window)| *window == name)
            .expect("a name")
            .0
    };
    let at = place(&skeleton.data, b"openat\0tracepoint/");
    skeleton.data[at..at + 7].copy_from_slice(b"openat_");
    let mut light = skeleton.object();
    let sections: Vec<&str> = light
        .programs()
        .iter()
        .map(|program| program.section())
        .collect();
    assert_eq!(
        sections,
        [
            "tracepoint",
            "tracepoint",
            "tp_btf/sched_wakeup",
            "raw_tp/sched_switch"
        ]
    );
    let capture = with_version("6.18.15-x86_64");
    let kernel = Kernel::at(capture.root()).expect("a kernel");
    let program = light.programs()[1].name().to_owned();
    let verdict = |light: &BpfObject| light.audit(&kernel).expect("a kernel")[1].verdict();
    assert_eq!(verdict(&light), Verdict::Unknown);
    let event = "syscalls:sys_exit_openat".parse().expect("a name");
    light.attach(&program, &event).expect("a program");
    assert_eq!(verdict(&light), Verdict::Right);
}

/// A kernel that cannot load the skeleton refuses what it would attach of the object; of an
/// excerpt of a kernel that does not say its version, that is not known.
#[test]
fn kernels_that_cannot_load_one() {
    let object = fs::read(sources().join("openat.bpf.o")).expect("an object");
    let Some(skeleton) = skeleton(&object) else {
        return skip("there is no bpftool that writes light skeletons");
    };
    let light = skeleton.object();
    let audit = |kernel: Kernel| {
        let audits = light.audit(&kernel).expect("a kernel");
        let [audit] = &audits[..] else {
            panic!("{audits:?}");
        };
        (
            audit.verdict(),
            audit.reason().unwrap_or_default().to_owned(),
        )
    };
    let capture = with_version("5.10.223-x86_64");
    let (verdict, reason) = audit(Kernel::at(capture.root()).expect("a kernel"));
    assert_eq!(verdict, Verdict::Refused);
    assert!(reason.contains("since Linux 5.17"), "{reason}");
    let (verdict, _) = audit(Kernel::at(fixture("5.10.223-x86_64")).expect("a kernel"));
    assert_eq!(verdict, Verdict::Unknown);
    let (verdict, _) = audit(Kernel::at(fixture("6.1.192-rt-x86_64")).expect("a kernel"));
    assert_eq!(verdict, Verdict::Wrong);
}

/// Constants have the values of the data, unless others are set.
#[test]
fn constants_of_the_data() {
    let Some(clang) = clang() else { return };
    let mut cases = cases("right.bpf.c").into_iter();
    let case = cases.find(|case| case.name == "constant_guards");
    let case = case.expect("it is there");
    let bytes = clang.compile(&case.name, &case.code, ByteOrder::Little);
    let Some(skeleton) = skeleton(&bytes) else {
        return skip("there is no bpftool that writes light skeletons");
    };
    let mut light = skeleton.object();
    let capture = with_version("6.18.15-x86_64");
    let kernel = Kernel::at(capture.root()).expect("a kernel");
    let verdict = |light: &BpfObject| light.audit(&kernel).expect("a kernel")[0].verdict();
    assert_eq!(verdict(&light), Verdict::Right);
    let set = light.set_constant("is_old", &1u32.to_le_bytes());
    set.expect("it has one");
    assert_eq!(verdict(&light), Verdict::Refused);
}

/// A loader whose data is not there, or may be either of two, is named.
#[test]
fn data_that_is_not_known() {
    let Some((_, skeleton)) = clang().and_then(|clang| two(&clang)) else {
        return;
    };
    let error = |file: &[u8]| {
        let found = BpfObject::find(file);
        let [found] = &found[..] else {
            panic!("{found:?}");
        };
        found.object().map(|_| ()).expect_err("no object").clone()
    };
    let alone = error(&skeleton.instructions);
    assert!(matches!(alone, BpfObjectError::LightSkeleton), "{alone:?}");
    assert_eq!(
        alone.to_string(),
        "a light skeleton (bpftool gen skeleton -L) whose data is not in the file: audit the \
         object it was made of"
    );
    let mut other = skeleton.data.clone();
    let place = other.windows(8).position(|window| window == b"sys_exit");
    other[place.expect("a name") + 4] = b'X';
    let both = [&skeleton.instructions[..], &skeleton.data, &other].concat();
    let both = error(&both);
    let expected = BpfObjectError::AmbiguousLightSkeleton { found: 2 };
    assert_eq!(both.to_string(), expected.to_string());
    // The same one twice is one.
    let twice = [&skeleton.instructions[..], &skeleton.data, &skeleton.data].concat();
    assert!(BpfObject::find(&twice)[0].object().is_ok());
}

/// No cut or changed skeleton fails otherwise than by an error.
#[test]
fn damaged_skeletons() {
    let object = fs::read(sources().join("openat.bpf.o")).expect("an object");
    let Some(skeleton) = skeleton(&object) else {
        return skip("there is no bpftool that writes light skeletons");
    };
    let kernel = AuditedKernel::new(&Kernel::at(fixture("6.18.15-x86_64")).expect("a kernel"));
    let whole = [&skeleton.instructions[..], &skeleton.data].concat();
    let check = |bytes: &[u8]| {
        for found in BpfObject::find(bytes) {
            if let Ok(object) = found.object() {
                let audits = object.audit_on(&kernel).expect("a whole kernel");
                assert!(audits.len() <= 1);
            }
        }
    };
    for length in (0..whole.len()).step_by(7) {
        check(&whole[..length]);
    }
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 0xff;
        check(&changed);
    }
}

/// In a program that a compiler made of the header, as tools have it.
#[test]
fn in_a_compiled_program() {
    let object = fs::read(sources().join("openat.bpf.o")).expect("an object");
    let Some(skeleton) = skeleton(&object) else {
        return skip("there is no bpftool that writes light skeletons");
    };
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name);
    fs::write(path("tool.lskel.h"), &skeleton.header).expect("a file");
    let main = "#include <errno.h>\n#include \"tool.lskel.h\"\nint main(void) { return !tool_bpf__open_and_load(); }\n";
    fs::write(path("tool.c"), main).expect("a file");
    let compiled = Command::new("cc")
        .args(["-O2", "-o"])
        .arg(path("tool"))
        .arg(path("tool.c"))
        .output();
    if !compiled.is_ok_and(|output| output.status.success()) {
        return skip("there is no C compiler, or no bpf/skel_internal.h");
    }
    let found = BpfObject::find(&fs::read(path("tool")).expect("a program"));
    let [found] = &found[..] else {
        panic!("{found:?}");
    };
    let light = found.object().expect("a sound skeleton");
    let [program] = light.programs() else {
        panic!("{light:?}");
    };
    assert_eq!(program.section(), "tracepoint/syscalls/sys_enter_openat");
}
