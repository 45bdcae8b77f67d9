//! One source for several kernels: it compiles, and reads right on each.

#[cfg(feature = "audit")]
mod audited;
#[cfg(all(feature = "probe", target_os = "linux"))]
mod offline;
#[cfg(all(feature = "probe", target_os = "linux"))]
mod offsets;
#[cfg(all(feature = "probe", target_os = "linux"))]
mod running;
#[cfg(all(feature = "probe", target_os = "linux"))]
mod skeleton;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::surroundings::vmlinux_h;
use crate::support;
use crate::support::btf::{BtfWriter, TraceEntry};
use crate::support::capture::{COMMON, Capture};
use crate::support::compilers::{has, libbpf};
use tracepoints::emit::CAccessors;
use tracepoints::{EventName, Kernel};

/// The kernels that sources are made from.
const ROOTS: [&str; 3] = ["6.1.192-rt-x86_64", "6.18.15-x86_64", "7.3.4-x86_64"];

fn accessors_of(roots: &[PathBuf]) -> CAccessors {
    let kernels = roots.iter().map(|root| {
        let kernel = Kernel::at(root).expect("a kernel");
        (support::name(root), kernel)
    });
    CAccessors::new(kernels).guarded_by("accessors.h")
}

fn roots() -> Vec<PathBuf> {
    ROOTS.iter().map(|root| support::fixture(root)).collect()
}

/// The events of any of the kernels, sorted.
#[cfg(any(feature = "audit", all(feature = "probe", target_os = "linux")))]
fn events_of(roots: &[PathBuf]) -> Vec<EventName> {
    let mut events: Vec<EventName> = Vec::new();
    for root in roots {
        let kernel = Kernel::at(root).expect("a kernel");
        events.extend(kernel.events().expect("events").iter().cloned());
    }
    events.sort();
    events.dedup();
    events
}

/// Adds the accessors of an event; `false` if it has none that are right on all kernels.
#[cfg(any(feature = "audit", all(feature = "probe", target_os = "linux")))]
fn has_accessors(accessors: &mut CAccessors, event: &EventName) -> bool {
    match accessors.add(event) {
        Ok(()) => true,
        Err(tracepoints::Error::NoStruct { .. } | tracepoints::Error::Conflict { .. }) => false,
        Err(error) => panic!("{event}: {error}"),
    }
}

/// An accessor in emitted text.
#[derive(Clone, Debug)]
struct Function {
    name: String,
    #[cfg(all(feature = "probe", target_os = "linux"))]
    field: String,
    is_number: bool,
}

/// The accessors of an event, in the text's order.
fn functions(text: &str, event: &EventName) -> Vec<Function> {
    let prefix = format!("{}_", event.event());
    let is_head = |line: &&str| line.starts_with("/* ") && line.contains(", from ");
    let own = format!("/* {event}, from ");
    let lines = text
        .lines()
        .skip_while(|line| !line.starts_with(&own))
        .skip(1);
    let lines = lines.take_while(|line| !is_head(line));
    let heads = lines.filter_map(|line| line.strip_prefix("static __always_inline "));
    heads
        .filter_map(|head| {
            let (declared, parameters) = head.split_once('(')?;
            let name = declared.rsplit(' ').next()?;
            let field = name.strip_prefix(&prefix)?;
            (!field.starts_with("has_")).then(|| Function {
                name: name.to_owned(),
                #[cfg(all(feature = "probe", target_os = "linux"))]
                field: field.to_owned(),
                is_number: parameters == "const void *ctx)",
            })
        })
        .collect()
}

/// Bytes of the context, and of a string or array, that programs hand out.
const RAW: usize = 512;
const COPIED: usize = 48;
/// The most fields of an event.
const MOST: usize = 24;

fn read_raw(size: usize) -> String {
    format!("\tbpf_probe_read_kernel(seen->raw, {size}, ctx);\n")
}

/// Programs that read every field of events by its accessor and hand out the values,
/// together with the context's bytes if these are wanted.
fn programs(text: &str, events: &[EventName], with_raw: bool) -> String {
    let mut code = format!(
        "#include \"accessors.h\"

struct seen {{
	unsigned int event;
	unsigned int pid;
	unsigned char raw[{RAW}];
	struct {{
		long long number;
		long long status;
		unsigned char bytes[{COPIED}];
	}} fields[{MOST}];
}};

struct {{
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 23);
}} ring SEC(\".maps\");

unsigned int counts[{}];
char LICENSE[] SEC(\"license\") = \"GPL\";
",
        events.len()
    );
    for (index, event) in events.iter().enumerate() {
        let functions = functions(text, event);
        assert!(functions.len() <= MOST, "{event}");
        let mut reads = String::new();
        for (at, function) in functions.iter().enumerate() {
            let name = &function.name;
            let _ = match function.is_number {
                true => writeln!(reads, "\tseen->fields[{at}].number = {name}(ctx);"),
                false => writeln!(
                    reads,
                    "\tseen->fields[{at}].status = {name}(ctx, (void *)seen->fields[{at}].bytes, {COPIED});"
                ),
            };
        }
        let _ = write!(
            code,
            "
SEC(\"{section}\")
int on_{event}(void *ctx)
{{
	struct seen *seen;

	if (counts[{index}] > 200)
		return 0;
	__sync_fetch_and_add(&counts[{index}], 1);
	seen = bpf_ringbuf_reserve(&ring, sizeof(*seen), 0);
	if (!seen)
		return 0;
	seen->event = {index};
	seen->pid = bpf_get_current_pid_tgid() >> 32;
{raw}{reads}	bpf_ringbuf_submit(seen, 0);
	return 0;
}}
",
            section = event.section(),
            // A system call's context is on the stack, not far from its end.
            raw = match (with_raw, event.category()) {
                (false, _) => String::new(),
                (true, "syscalls") => read_raw(64),
                (true, _) => read_raw(RAW),
            },
            event = event.event(),
        );
    }
    code
}

/// Types that libbpf's headers need, and the kernel's own.
const TYPES: &str = "#include <linux/bpf.h>\n#include <linux/types.h>\n";

/// Compiles programs with a header for eBPF; `None` where there is no clang, which is
/// reported.
fn compile(header: &str, code: &str, target: &str, dir: &Path) -> Option<Vec<u8>> {
    let include = libbpf()?;
    let (source, object) = (dir.join("accessors.bpf.c"), dir.join("accessors.bpf.o"));
    // The kernel's own types, where a test has put them there.
    let types = match dir.join("vmlinux.h").exists() {
        true => "#include \"vmlinux.h\"\n",
        false => TYPES,
    };
    fs::write(dir.join("accessors.h"), header).expect("a file");
    fs::write(&source, format!("{types}{code}")).expect("a file");
    let output = Command::new("clang")
        .args([
            "-O2", "-g", "-Wall", "-Werror", "-target", target, &include, "-c",
        ])
        .arg(&source)
        .arg("-o")
        .arg(&object)
        .output()
        .expect("clang");
    let said = String::from_utf8_lossy(&output.stderr);
    let first: Vec<&str> = said.lines().take(30).collect();
    assert!(output.status.success(), "{}", first.join("\n"));
    Some(fs::read(object).expect("an object"))
}

#[test]
fn text_and_notes() {
    let mut accessors = accessors_of(&roots());
    for event in [
        "sched:sched_process_exit",
        "sched:sched_process_free",
        "syscalls:sys_enter_unlinkat",
    ] {
        accessors
            .add(&event.parse().expect("a name"))
            .expect("accessors");
    }
    let notes = accessors.notes().join("\n");
    insta::assert_snapshot!(format!("{accessors}\n== notes\n{notes}"));
}

/// In one unit with `vmlinux.h`, which defines the same structs.
#[test]
fn beside_vmlinux_h() {
    let btf = Path::new("/sys/kernel/btf/vmlinux");
    if fs::File::open(btf).is_err() || !has("bpftool") {
        return support::skip("there is no bpftool, or the kernel has no BTF");
    }
    let dir = tempfile::tempdir().expect("a directory");
    vmlinux_h(btf, &dir.path().join("vmlinux.h"));
    let events: Vec<EventName> = [
        "sched:sched_process_exit",
        "syscalls:sys_enter_unlinkat",
        "timer:hrtimer_start",
    ]
    .map(|event| event.parse().expect("a name"))
    .into();
    let mut accessors = accessors_of(&roots());
    for event in &events {
        accessors.add(event).expect("accessors");
    }
    let text = accessors.to_string();
    let object = compile(&text, &programs(&text, &events, true), "bpf", dir.path());
    assert!(object.is_none_or(|object| !object.is_empty()));
}

/// One kernel alone is served rightly or refused, whatever its event became elsewhere.
#[test]
fn of_one_kernel() {
    let mut accessors = accessors_of(&[support::fixture("6.1.192-rt-x86_64")]);
    let exit = "sched:sched_process_exit".parse().expect("a name");
    accessors.add(&exit).expect("accessors");
    let text = accessors.to_string();
    assert!(
        text.contains("if (bpf_core_type_exists(struct trace_event_raw_sched_process_exit___own))"),
        "{text}"
    );
}

/// A module's struct whose name vmlinux has for another: loaders take that one.
#[test]
fn a_struct_that_loaders_do_not_find() {
    let mut btf = BtfWriter::new(false);
    btf.int("long int", 8, true);
    let TraceEntry { id: entry, int, .. } = btf.trace_entry(8);
    let char = btf.int("char", 1, false);
    let data = btf.array(char, 0);
    let void_pointer = btf.pointer(0);
    let members = |at_8, at_12| {
        [
            ("ent", entry, 0),
            (at_8, int, 8),
            (at_12, int, 12),
            ("__data", data, 16),
        ]
    };
    let of_vmlinux = members("b", "a");
    btf.event_class("shared", 16, &of_vmlinux, &[void_pointer, int]);
    btf.event("elsewhere", &[void_pointer, int]);
    let mut module = BtfWriter::split(&btf);
    let of_module = members("a", "b");
    module.event_class("shared", 16, &of_module, &[void_pointer, int]);
    module.event("event", &[void_pointer, int]);
    let mut capture = Capture::new();
    capture.event("x:event", COMMON, &[("int a", 8, 4), ("int b", 12, 4)]);
    capture.btf("vmlinux", &btf.bytes());
    capture.btf("some_module", &module.bytes());
    let kernel = capture.kernel();
    let event: EventName = "x:event".parse().expect("a name");
    let context = kernel.tracepoint(&event).expect("an event").context();
    let context = context.expect("a context");
    assert_eq!(
        (context.struct_name(), context.home()),
        (Some("trace_event_raw_shared"), Some("some_module")),
        "{}",
        context.evidence()
    );
    let mut accessors = CAccessors::new([("a kernel", kernel)]);
    let error = accessors.add(&event).expect_err("it would be misread");
    assert!(
        error.to_string().contains("the same name in vmlinux"),
        "{error}"
    );
}

#[test]
fn events_that_cannot_be_served() {
    let mut accessors = accessors_of(&roots());
    for (event, expected) in [
        ("sched:no_such", "no event sched:no_such"),
        ("kvm:no_such", "no event kvm:no_such"),
    ] {
        let error = accessors.add(&event.parse().expect("a name"));
        let error = error.expect_err("there is none").to_string();
        assert!(error.contains(expected), "{error}");
    }
    let mut without_btf = accessors_of(&[support::fixture("6.1.176-i686")]);
    let switch = "sched:sched_switch".parse().expect("a name");
    assert!(matches!(
        without_btf.add(&switch),
        Err(tracepoints::Error::NoStruct { .. })
    ));
    assert_eq!(without_btf.notes().len(), 0);
}
