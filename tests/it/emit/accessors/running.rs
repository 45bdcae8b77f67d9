//! Programs with accessors, compiled once, on the running kernel: each value against the
//! context's bytes as the kernel's own format file has them, and against what was done.
//!
//! A machine without clang takes the object that `TRACEPOINTS_ACCESSORS` names, which the
//! same test writes there where `TRACEPOINTS_WRITE_ACCESSORS` names the file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};

use aya::maps::RingBuf;
use aya::programs::TracePoint;
use aya::{Ebpf, EbpfLoader};
use rustix::fs::{AtFlags, CWD};

use super::*;
use crate::support::live::{is_inside, live};
use tracepoints::format::FieldKind;
use tracepoints::{Error, Machine, Record, Tracepoint, Value};

/// Events of which every kernel makes some when it is provoked.
const PROVOKED: [&str; 24] = [
    "block:block_bio_queue",
    "block:block_rq_complete",
    "block:block_rq_issue",
    "kmem:kmalloc",
    "kmem:mm_page_alloc",
    "net:net_dev_queue",
    "net:netif_rx",
    "raw_syscalls:sys_enter",
    "raw_syscalls:sys_exit",
    "sched:sched_process_exec",
    "sched:sched_process_exit",
    "sched:sched_process_fork",
    "sched:sched_process_free",
    "sched:sched_switch",
    "sched:sched_wakeup",
    "signal:signal_generate",
    "sock:inet_sock_set_state",
    "syscalls:sys_enter_openat",
    "syscalls:sys_enter_unlinkat",
    "syscalls:sys_enter_write",
    "syscalls:sys_exit_openat",
    "syscalls:sys_exit_unlinkat",
    "task:task_newtask",
    "timer:hrtimer_start",
];

fn events() -> Vec<EventName> {
    let names = PROVOKED.iter().map(|event| event.parse().expect("a name"));
    names.collect()
}

fn source() -> (String, String) {
    let mut accessors = accessors_of(&roots());
    for event in events() {
        accessors
            .add(&event)
            .unwrap_or_else(|error| panic!("{event}: {error}"));
    }
    let text = accessors.to_string();
    let code = programs(&text, &events(), true);
    (text, code)
}

/// The object: compiled here, or where there was a clang.
fn object(text: &str, code: &str) -> Option<Vec<u8>> {
    if let Some(path) = std::env::var_os("TRACEPOINTS_ACCESSORS") {
        return Some(fs::read(path).expect("the object"));
    }
    let dir = tempfile::tempdir().expect("a directory");
    compile(text, code, "bpf", dir.path())
}

/// Written for a machine without clang.
#[test]
fn the_object_for_other_kernels() {
    let (text, code) = source();
    let Some(object) = object(&text, &code) else {
        return;
    };
    if let Some(path) = std::env::var_os("TRACEPOINTS_WRITE_ACCESSORS") {
        fs::write(path, object).expect("written");
    }
}

/// Loads and attaches each program; what is refused is returned with the reason.
fn attach(ebpf: &mut Ebpf) -> BTreeMap<EventName, String> {
    let mut refused = BTreeMap::new();
    for event in events() {
        let program = ebpf.program_mut(&format!("on_{}", event.event()));
        let program: &mut TracePoint = program
            .expect("a program")
            .try_into()
            .expect("a tracepoint's");
        let attached = program
            .load()
            .and_then(|()| program.attach(event.category(), event.event()));
        if let Err(error) = attached {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                text += &format!(": {cause}");
                source = cause.source();
            }
            refused.insert(event, text);
        }
    }
    refused
}

/// How long a process may take to be freed after its end: emulated machines are slow.
pub(super) fn grace() -> std::time::Duration {
    let is_emulated = std::env::var_os("TRACEPOINTS_ACCESSORS").is_some();
    std::time::Duration::from_millis(if is_emulated { 5000 } else { 800 })
}

/// Makes at least one of each event, and returns the path that is unlinked and the child
/// that ends.
fn provoke(dir: &Path) -> (String, u32) {
    let path = dir.join("unlinked by the accessors' test");
    let mut file = File::create(&path).expect("a file");
    file.write_all(&[1; 8192]).expect("written");
    file.sync_all().expect("synced");
    rustix::fs::unlinkat(CWD, &path, AtFlags::empty()).expect("unlinked");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("an address");
    let mut stream = TcpStream::connect(address).expect("connected");
    let (accepted, _) = listener.accept().expect("accepted");
    stream.write_all(b"text").expect("written");
    drop((stream, accepted));
    std::thread::sleep(std::time::Duration::from_millis(20));
    let mut child = Command::new("rm")
        .arg("-f")
        .arg(&path)
        .spawn()
        .expect("a child");
    let pid = child.id();
    let _ = child.wait().expect("it ends");
    // A process is freed a grace period after its end.
    std::thread::sleep(grace());
    (path.to_string_lossy().into_owned(), pid)
}

/// One event as a program handed it out.
struct Seen<'a>(&'a [u8]);

impl<'a> Seen<'a> {
    fn word(&self, at: usize) -> u32 {
        u32::from_ne_bytes(self.0[at..at + 4].try_into().expect("four bytes"))
    }

    fn event(&self) -> usize {
        self.word(0) as usize
    }

    fn pid(&self) -> u32 {
        self.word(4)
    }

    fn raw(&self) -> &'a [u8] {
        &self.0[8..8 + RAW]
    }

    /// Number, status and bytes.
    fn field(&self, index: usize) -> (i64, i64, &'a [u8]) {
        let at = 8 + RAW + index * (16 + COPIED);
        let number =
            |at: usize| i64::from_ne_bytes(self.0[at..at + 8].try_into().expect("eight bytes"));
        (
            number(at),
            number(at + 8),
            &self.0[at + 16..at + 16 + COPIED],
        )
    }
}

/// What was wrong, and how many values were compared.
#[derive(Default)]
struct Compared {
    wrong: Vec<String>,
    values: BTreeMap<EventName, usize>,
    fields: BTreeSet<String>,
}

impl Compared {
    fn compare(
        &mut self,
        tracepoint: &Tracepoint,
        machine: Machine,
        functions: &[Function],
        seen: &Seen<'_>,
    ) {
        let name = tracepoint.name();
        *self.values.entry(name.clone()).or_default() += 0;
        for (index, function) in functions.iter().enumerate() {
            let (number, status, bytes) = seen.field(index);
            let field = tracepoint.format().field(&function.field);
            let slot = tracepoint.context().expect("a context");
            let slot = slot.slot_of(&function.field).expect("a layout");
            let (Some(field), Some(slot)) = (field, slot) else {
                // The text of a process has an accessor of its own.
                let is_text = function.name.ends_with("_str");
                if !is_text && number != 0 || !function.is_number && !is_text && status != -2 {
                    self.wrong.push(format!(
                        "{}: not there, and {number} {status}",
                        function.name
                    ));
                }
                continue;
            };
            let (start, end) = (slot.offset() as usize, slot.end() as usize);
            let is_right = match function.is_number {
                true if function.field == "__syscall_nr" => {
                    // On RT kernels the context has it elsewhere than the record.
                    machine.unsigned(&seen.raw()[start..end]) as u32 == number as u32
                }
                true => {
                    let record = Record::new(tracepoint.format(), seen.raw(), machine);
                    let value = record.value(field).expect("a number");
                    value.integer() == Some(number)
                }
                false => {
                    let record = Record::new(tracepoint.format(), seen.raw(), machine);
                    match (record.value(field), field.kind()) {
                        (Ok(Value::Text(text)), _) => {
                            let text = &text[..text.len().min(COPIED - 1)];
                            status == text.len() as i64 + 1 && bytes[..text.len()] == *text
                        }
                        (Ok(_), FieldKind::Array | FieldKind::DataLoc | FieldKind::RelLoc) => {
                            let data = record.data(field).expect("its bytes");
                            let length = data.len().min(COPIED);
                            status == length as i64 && bytes[..length] == data[..length]
                        }
                        // Longer than what was handed out.
                        (Err(_), _) => continue,
                        _ => false,
                    }
                }
            };
            if !is_right {
                self.wrong.push(format!(
                    "{}: {number} {status} {:?}, but {:?}",
                    function.name,
                    &bytes[..8],
                    &seen.raw()[start..end.min(start + 16)]
                ));
            }
            *self.values.entry(name.clone()).or_default() += 1;
            self.fields.insert(format!("{name}.{}", function.field));
        }
    }
}

#[test]
fn every_value_is_the_kernels() {
    let Some(kernel) = live() else {
        return;
    };
    let (text, code) = source();
    let Some(object) = object(&text, &code) else {
        // A guest has no clang, and is given the object.
        assert!(!is_inside() || std::env::var_os("TRACEPOINTS_ACCESSORS").is_none());
        return;
    };
    let mut ebpf = EbpfLoader::new().load(&object).expect("an object");
    let mut ring = RingBuf::try_from(ebpf.take_map("ring").expect("a map")).expect("a ring");
    let refused = attach(&mut ebpf);
    let dir = tempfile::tempdir().expect("a directory");
    let (path, child) = provoke(dir.path());
    drop(ebpf);

    let machine = kernel.machine().expect("a machine");
    let mut compared = Compared::default();
    let mut unlinked = 0;
    let mut ended = BTreeSet::new();
    let tracepoints: Vec<Option<Tracepoint>> = events()
        .iter()
        .map(|event| match kernel.tracepoint(event) {
            Err(Error::NoSuchEvent { .. }) => None,
            other => Some(other.expect("an event")),
        })
        .collect();
    let functions: Vec<_> = events()
        .iter()
        .map(|event| functions(&text, event))
        .collect();
    let find = |event: &str, field: &str| {
        let at = events()
            .iter()
            .position(|name| name.as_str() == event)
            .expect("an event");
        let functions = functions[at].iter();
        let field = functions
            .clone()
            .position(|function| function.field == field);
        (at, field.expect("a field"))
    };
    let dfd = find("syscalls:sys_enter_unlinkat", "dfd");
    let pathname = find("syscalls:sys_enter_unlinkat", "pathname_str");
    let flag = find("syscalls:sys_enter_unlinkat", "flag");
    let exit = find("sched:sched_process_exit", "pid");
    let free = find("sched:sched_process_free", "pid");
    while let Some(item) = ring.next() {
        let seen = Seen(&item);
        let at = seen.event();
        let tracepoint = tracepoints[at].as_ref().expect("an event of this kernel");
        compared.compare(tracepoint, machine, &functions[at], &seen);
        if at == dfd.0 && seen.pid() == std::process::id() {
            let (_, status, bytes) = seen.field(pathname.1);
            let length = path.len().min(COPIED - 1);
            let is_it = bytes[..length] == path.as_bytes()[..length];
            assert_eq!((seen.field(dfd.1).0, seen.field(flag.1).0), (-100, 0));
            unlinked += usize::from(is_it && status == length as i64 + 1);
        }
        for (event, field) in [exit, free] {
            if at == event && seen.field(field).0 == i64::from(child) {
                ended.insert(at);
            }
        }
    }
    judge(&kernel, &compared, &refused);
    assert_eq!((unlinked, ended.len()), (1, 2), "what the test did is seen");
}

/// Panics where a value is wrong, too few events were seen, or a program was refused that
/// should not be.
fn judge(kernel: &Kernel, compared: &Compared, refused: &BTreeMap<EventName, String>) {
    for (event, why) in refused {
        println!("refused: {event}: {why}");
    }
    let seen = compared.values.len();
    let values: usize = compared.values.values().sum();
    println!(
        "{seen} events seen, {} fields, {values} values compared, {} refused",
        compared.fields.len(),
        refused.len()
    );
    let first = &compared.wrong[..compared.wrong.len().min(20)];
    assert!(
        compared.wrong.is_empty(),
        "{} wrong: {first:#?}",
        compared.wrong.len()
    );
    let missing: Vec<_> = events()
        .into_iter()
        .filter(|event| !compared.values.contains_key(event) && !refused.contains_key(event))
        .collect();
    assert!(missing.len() <= 2 && seen >= 18, "not seen: {missing:?}");
    // Refused is only what none of the kernels that the source is from has.
    let expected: BTreeSet<&str> = match kernel.version().expect("a version") {
        Some(version) if version.to_string().starts_with("5.10") => [
            "block:block_bio_queue",
            "block:block_rq_complete",
            "kmem:kmalloc",
        ]
        .into(),
        _ => BTreeSet::new(),
    };
    let refused: BTreeSet<&str> = refused.keys().map(EventName::as_str).collect();
    assert!(refused.is_subset(&expected), "{refused:?}");
}
