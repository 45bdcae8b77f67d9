//! Writes the inputs fuzzing begins with, made of the fixtures: `seeds DIRECTORY`
//! fills `DIRECTORY/<target>/`.

#[path = "../../tests/it/support/btf.rs"]
mod btf;
#[path = "../../tests/it/support/perf_data.rs"]
mod perf_data;
#[path = "../../tests/it/support/trace_dat.rs"]
mod trace_dat;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use btf::{BtfWriter, TraceEntry};
use tracepoints::{EventName, Kernel};
use tracepoints_fuzz::{SEPARATOR, fixture};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Each with the bits of [`tracepoints_fuzz::machine`].
const KERNELS: [(&str, u8); 6] = [
    ("5.10.223-x86_64", 0),
    ("6.1.176-i686", 2),
    ("6.1.192-rt-x86_64", 0),
    ("6.12.107-s390x", 1),
    ("6.18.15-x86_64", 0),
    ("7.3.4-x86_64", 0),
];

fn main() -> Result<()> {
    let directory = std::env::args_os().nth(1).ok_or("usage: seeds DIRECTORY")?;
    let mut seeds = Seeds {
        directory: directory.into(),
        counts: BTreeMap::new(),
    };
    for (kernel, machine) in KERNELS {
        of_kernel(&mut seeds, kernel, machine)?;
    }
    filters(&mut seeds)?;
    objects(&mut seeds)?;
    captured_roots(&mut seeds)?;
    images(&mut seeds)?;
    archives(&mut seeds)?;
    recordings(&mut seeds)?;
    for (target, count) in &seeds.counts {
        println!("{target}: {count} seeds");
    }
    Ok(())
}

/// Writes small recordings: a few events and a page.
fn recordings(seeds: &mut Seeds) -> Result<()> {
    let zlib = |bytes: &[u8]| {
        let mut out = Vec::new();
        let mut encoder = flate2::read::ZlibEncoder::new(bytes, flate2::Compression::default());
        // Reading from memory is infallible.
        let _ = std::io::copy(&mut encoder, &mut out);
        out
    };
    for (kernel, bits) in KERNELS {
        let machine = tracepoints_fuzz::machine(bits);
        let mut dat = trace_dat::DatFile::of_capture(&fixture(kernel), machine.byte_order());
        dat.ftrace.truncate(1);
        dat.categories.truncate(2);
        dat.categories
            .iter_mut()
            .for_each(|(_, formats)| formats.truncate(2));
        dat.printk_formats.truncate(200);
        dat.task_names.truncate(200);
        dat.buffers[0]
            .cpus
            .iter_mut()
            .for_each(|pages| pages.truncate(4096));
        dat.buffers[0].cpus.truncate(1);
        seeds.add("trace_dat", &[&dat.version_6()])?;
        for packing in [trace_dat::UNPACKED, ("zlib", &zlib)] {
            seeds.add("trace_dat", &[&dat.version_7(packing)])?;
        }
        for (_, bytes) in perf_recording(dat).forms() {
            seeds.add("perf_data", &[&bytes])?;
        }
    }
    Ok(())
}

/// A recording of perf with one record of each kind.
fn perf_recording(dat: trace_dat::DatFile) -> perf_data::PerfFile {
    let event = perf_data::PerfEvent::TRACEPOINT;
    let at = |time| perf_data::Moment {
        time,
        cpu: 1,
        pid: 7,
        tid: 8,
    };
    let mut file = perf_data::PerfFile {
        dat,
        events: vec![event],
        ..perf_data::PerfFile::default()
    };
    file.features = [(3, "node"), (4, "6.1.0"), (6, "x86_64")]
        .map(|(feature, text)| (feature, file.text(text)))
        .into();
    file.name("a", event, at(1));
    file.fork(9, 8, event, at(2));
    file.sample(event, at(4), &[1, 0, 0, 0, 8, 0, 0, 0]);
    file.sample(event, at(3), &[2, 0, 0, 0, 8, 0, 0, 0]);
    file.lost(5, event, at(5));
    file
}

/// Writes the seeds of images and what is in them.
fn images(seeds: &mut Seeds) -> Result<()> {
    for image in tracepoints_fuzz::images::images() {
        seeds.add("image_kallsyms", &[&[0], &image])?;
        seeds.add("image", &[&image])?;
    }
    seeds.add("image_module", &[&tracepoints_fuzz::images::module()])?;
    // No change, and some of the first table.
    seeds.add("image_tables", &[&[0; 4]])?;
    seeds.add("image_tables", &[&[0x40, 1, 0, 0xff, 0x80, 2, 0, 1]])?;
    Ok(())
}

/// Writes archives of a small kernel: GNU's form with a long name, and compressed.
fn archives(seeds: &mut Seeds) -> Result<()> {
    let format = tracepoints_fuzz::fixture_text(
        "6.18.15-x86_64",
        "tracing/events/sched/sched_switch/format",
    );
    let long = format!("{}/tracing/available_events", "long".repeat(40));
    let mut archive = tar::Builder::new(Vec::new());
    for (path, text) in [
        ("tracing/available_events", "sched:sched_switch\n"),
        ("tracing/events/sched/sched_switch/format", &*format),
        ("proc/version", "Linux version 6.18.15\n"),
        (&*long, "sched:sched_switch\n"),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        archive.append_data(&mut header, path, text.as_bytes())?;
    }
    let archive = archive.into_inner()?;
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&archive)?;
    seeds.add("archive", &[&archive])?;
    seeds.add("archive", &[&packed.finish()?])
}

struct Seeds {
    directory: PathBuf,
    counts: BTreeMap<String, usize>,
}

impl Seeds {
    /// Adds an input of these parts, one after the other.
    fn add(&mut self, target: &str, parts: &[&[u8]]) -> Result<()> {
        let count = self.counts.entry(target.to_owned()).or_default();
        let directory = self.directory.join(target);
        fs::create_dir_all(&directory)?;
        fs::write(directory.join(format!("seed-{count:04}")), parts.concat())?;
        *count += 1;
        Ok(())
    }
}

/// Writes the seeds from the files of one kernel.
fn of_kernel(seeds: &mut Seeds, name: &str, machine: u8) -> Result<()> {
    let root = fixture(name);
    let list = fs::read(root.join("tracing/available_events"))?;
    seeds.add("available_events", &[&list])?;
    let kernel = Kernel::at(&root)?;
    let mut records = records(&root)?;
    for event in kernel.event_directories()? {
        let tracepoint = kernel.tracepoint(&event)?;
        let format = tracepoint.format();
        let text = format.to_string();
        seeds.add("format", &[text.as_bytes()])?;
        seeds.add("print_fmt", &[format.print_fmt().as_bytes()])?;
        for field in format.fields() {
            let declaration = field.declaration().text();
            let size = u8::try_from(field.size()).unwrap_or(u8::MAX);
            seeds.add("declaration", &[&[size], declaration.as_bytes()])?;
        }
        let id = u16::try_from(format.id().ok_or("no id")?)?;
        // A true record of it, or any.
        let record = records.remove(&id).unwrap_or_else(|| {
            let length = format.layout().size().max(8);
            (0..length + 8).map(|at| at as u8).collect()
        });
        seeds.add(
            "print_eval",
            &[&[machine], text.as_bytes(), SEPARATOR, &record],
        )?;
    }
    for page in pages(&root)? {
        seeds.add("ring_page", &[&[machine], &page])?;
        // The same where the input says what a page is, and on other machines.
        let header = fs::read(root.join("tracing/events/header_page"))?;
        seeds.add("ring_page", &[&[machine | 0x80], &header, SEPARATOR, &page])?;
        let small = String::from_utf8(header)?.replace("size:4080", "size:240");
        let page = &page[..256];
        seeds.add("ring_page", &[&[0x80], small.as_bytes(), SEPARATOR, page])?;
    }
    Ok(())
}

/// The ring buffer's pages in a capture.
fn pages(root: &Path) -> Result<Vec<Vec<u8>>> {
    let mut pages = Vec::new();
    let Ok(entries) = root.join("ring").read_dir() else {
        return Ok(pages);
    };
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "raw") {
            pages.extend(fs::read(path)?.chunks(4096).map(<[u8]>::to_vec));
        }
    }
    Ok(pages)
}

/// One record of each event in a capture's ring buffer, by its id.
fn records(root: &Path) -> Result<BTreeMap<u16, Vec<u8>>> {
    let mut records = BTreeMap::new();
    let kernel = Kernel::at(root)?;
    for page in pages(root)? {
        let order = kernel.machine()?.byte_order();
        for entry in kernel.page_layout()?.page(&page, order)?.entries() {
            let entry = entry?;
            if let Some(id) = entry.event_id() {
                records.insert(id, entry.bytes().to_vec());
            }
        }
    }
    Ok(records)
}

fn filters(seeds: &mut Seeds) -> Result<()> {
    let filters = [
        "ret < 0 && comm != \"cat\"",
        "pid == 1 || tid != 0x10 || cpu >= 017",
        "flags & 0x200",
        "!(flags & 1 == 0) && (prev_prio <= 120 || next_prio > 5)",
        "args.pid == task.pid",
        "comm == \"a\\\"b\\\\\"",
        "prev_comm == \"sh\" && prev_state != 0",
        "filename != \"/bin/rm\"",
        "id == -1 || nr == 257",
        "dfd < 0 && flag >= 18446744073709551615",
    ];
    let kernel = Kernel::at(fixture("7.3.4-x86_64"))?;
    let events = kernel.event_directories()?;
    for (index, filter) in filters.iter().enumerate() {
        // Events as many as two bytes hold; the target counts them as here.
        for (event, name) in events.iter().enumerate().skip(index).step_by(7) {
            let event = u8::try_from(event)?;
            let format = kernel.tracepoint(name)?;
            let field = format.format().fields().first().map(|field| field.name());
            let own = format!("{} == 1 && {filter}", field.unwrap_or("pid"));
            let record: Vec<u8> = (0..64).collect();
            for text in [filter, own.as_str()] {
                seeds.add(
                    "filter",
                    &[&[0, event], text.as_bytes(), SEPARATOR, &record],
                )?;
            }
        }
    }
    Ok(())
}

/// A vmlinux with two events and all that BTF has kinds for, and a module.
fn small_objects(big_endian: bool) -> (Vec<u8>, Vec<u8>) {
    let mut vmlinux = BtfWriter::new(big_endian);
    let TraceEntry { id: entry, int, .. } = vmlinux.trace_entry(8);
    let long = vmlinux.int("long unsigned int", 8, false);
    let byte = vmlinux.int("char", 1, true);
    let text = vmlinux.array(byte, 16);
    let task = vmlinux.structure("task_struct", 16, &[("comm", text, 0)]);
    let of_task = vmlinux.constant(task);
    let task = vmlinux.pointer(of_task);
    let data = vmlinux.pointer(0);
    let pid = vmlinux.typedef("pid_t", int);
    let mode = vmlinux.enumeration("mode", &[("MODE_A", 0), ("MODE_B", u32::MAX)]);
    vmlinux.enumeration64("wide");
    vmlinux.bitfields(
        "bits",
        8,
        &[("a", int, 0, 3), ("b", int, 3, 6), ("c", long, 32, 32)],
    );
    let end = vmlinux.array(byte, 0);
    vmlinux.event_class(
        "exit_template",
        32,
        &[
            ("ent", entry, 0),
            ("comm", text, 8),
            ("pid", pid, 24),
            ("prio", mode, 28),
            ("__data", end, 32),
        ],
        &[data, task],
    );
    vmlinux.event("exit", &[data, task]);
    vmlinux.event("free", &[data, task]);
    vmlinux.event("bare_tp", &[data, pid]);
    let named = vmlinux.named_prototype(&[("__data", data), ("p", task)]);
    vmlinux.function("__traceiter_exit", named);
    let six = vmlinux.array(long, 6);
    vmlinux.structure(
        "syscall_trace_enter",
        64,
        &[("ent", entry, 0), ("nr", int, 8), ("args", six, 16)],
    );
    vmlinux.structure(
        "syscall_tp_t",
        64,
        &[("ent", entry, 0), ("syscall_nr", int, 8), ("args", six, 16)],
    );
    vmlinux.structure(
        "trace_event_raw_sys_enter",
        64,
        &[
            ("ent", entry, 0),
            ("id", long, 8),
            ("args", six, 16),
            ("__data", end, 64),
        ],
    );
    let callback = vmlinux.prototype_returning(int, &[task, 0]);
    vmlinux.pointer(callback);

    let mut module = BtfWriter::split(&vmlinux);
    module.event_class(
        "ilock",
        24,
        &[
            ("ent", entry, 0),
            ("dev", int, 8),
            ("ino", long, 16),
            ("__data", end, 24),
        ],
        &[data, task],
    );
    module.event("ilock", &[data, task]);
    (vmlinux.bytes(), module.bytes())
}

fn objects(seeds: &mut Seeds) -> Result<()> {
    for object in ["openat.bpf.o", "loads.bpf.o"] {
        seeds.add("bpf_object", &[&fs::read(fixture("audit").join(object))?])?;
    }
    for big_endian in [false, true] {
        let (vmlinux, module) = small_objects(big_endian);
        seeds.add("btf", &[&vmlinux])?;
        seeds.add("split_btf", &[&vmlinux, SEPARATOR, &module])?;
    }
    for (kernel, _) in KERNELS {
        let path = fixture(kernel).join("btf");
        let Ok(vmlinux) = fs::read(path.join("vmlinux")) else {
            continue;
        };
        seeds.add("btf", &[&vmlinux])?;
        for module in ["nbd", "sunrpc"] {
            if let Ok(module) = fs::read(path.join(module)) {
                seeds.add("split_btf", &[&vmlinux, SEPARATOR, &module])?;
            }
        }
    }
    Ok(())
}

/// A file of a captured root, as the target takes it.
fn file(kind: char, path: &str, content: &[u8]) -> Vec<u8> {
    [SEPARATOR, format!("{kind}{path}\n").as_bytes(), content].concat()
}

fn captured_roots(seeds: &mut Seeds) -> Result<()> {
    let common = "\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
        \tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n\
        \tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;\n\
        \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n";
    let exit = "\tfield:char comm[16];\toffset:8;\tsize:16;\tsigned:0;\n\
        \tfield:pid_t pid;\toffset:24;\tsize:4;\tsigned:1;\n\
        \tfield:int prio;\toffset:28;\tsize:4;\tsigned:1;\n";
    let unlink = "\tfield:int __syscall_nr;\toffset:8;\tsize:4;\tsigned:1;\n\
        \tfield:const char * pathname;\toffset:16;\tsize:8;\tsigned:0;\n";
    let ilock = "\tfield:dev_t dev;\toffset:8;\tsize:4;\tsigned:0;\n\
        \tfield:unsigned long ino;\toffset:16;\tsize:8;\tsigned:0;\n";
    let events = [
        (
            "sched:exit",
            300,
            exit,
            "\"comm=%s pid=%d prio=%s\", REC->comm, REC->pid, __print_symbolic(REC->prio, { MODE_A, \"A\" }, { 1, \"B\" })",
        ),
        (
            "sched:free",
            301,
            exit,
            "\"comm=%s pid=%d prio=%d\", REC->comm, REC->pid, REC->prio",
        ),
        (
            "syscalls:sys_enter_unlink",
            700,
            unlink,
            "\"pathname: 0x%08lx\", ((unsigned long)(REC->pathname))",
        ),
        (
            "xfs:ilock",
            900,
            ilock,
            "\"dev %d:%d ino 0x%lx\", ((unsigned int) ((REC->dev) >> 20)), ((unsigned int) ((REC->dev) & ((1U << 20) - 1))), REC->ino",
        ),
    ];
    let header = fs::read(fixture("6.18.15-x86_64").join("tracing/events/header_page"))?;
    let header = String::from_utf8(header)?.replace("size:4080", "size:112");
    for big_endian in [false, true] {
        let (vmlinux, module) = small_objects(big_endian);
        let mut files = vec![
            file('f', "btf/vmlinux", &vmlinux),
            file('f', "btf/xfs", &module),
            file('f', "tracing/events/header_page", header.as_bytes()),
            file(
                'f',
                "tracing/printk_formats",
                b"0xffff000000000200 : \"a string\"\n",
            ),
        ];
        let mut list = String::new();
        for (name, id, own, print) in events {
            let name: EventName = name.parse()?;
            let directory = format!("tracing/events/{}/{}", name.category(), name.event());
            let text = format!(
                "name: {}\nID: {id}\nformat:\n{common}\n{own}\nprint fmt: {print}\n",
                name.event()
            );
            files.push(file('f', &format!("{directory}/format"), text.as_bytes()));
            files.push(file(
                'f',
                &format!("{directory}/id"),
                format!("{id}\n").as_bytes(),
            ));
            list += &format!("{name}\n");
        }
        let all = files.concat();
        let listed = file('f', "tracing/available_events", list.as_bytes());
        let number = |value: u64, size: usize| match big_endian {
            false => value.to_le_bytes()[..size].to_vec(),
            true => value.to_be_bytes()[8 - size..].to_vec(),
        };
        // One page with one record of `exit`: 8 words behind a header of one.
        let delta = match big_endian {
            false => 8 | 7 << 5,
            true => 8 << 27 | 7,
        };
        let mut record = number(300, 2);
        record.extend([0, 0, 1, 2, 3, 4]);
        record.extend(b"sh\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        record.extend([7; 8]);
        let page = [number(1000, 8), number(36, 8), number(delta, 4), record].concat();
        let ring = file('r', "ring", &page);
        let links = [
            file('l', "tracing/events/other", b"tracing/events/sched"),
            file('p', "tracing/events/sched/exit/btf_ids", b""),
            file('d', "btf/empty", b""),
        ];
        let links = links.concat();
        let ids = file(
            'f',
            "tracing/events/sched/exit/btf_ids",
            b"raw_tp_btf_id: 9\ntp_btf_id: 20\n",
        );
        let bad = file(
            'f',
            "tracing/available_events",
            b"sched:exit\nno name\n\x1b[2J:x\n",
        );
        seeds.add("captured_root", &[&listed, &all, &ring])?;
        seeds.add("captured_root", &[&all])?;
        seeds.add("captured_root", &[&listed, &ids, &all])?;
        seeds.add("captured_root", &[&listed, &links, &all, &ring])?;
        seeds.add("captured_root", &[&bad, &all])?;
        seeds.add("captured_root", &[&listed, &files[4..].concat()])?;
    }
    Ok(())
}
