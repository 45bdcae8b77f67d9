//! A whole captured kernel: everything it is asked for comes, or is an error.
#![no_main]

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

use libfuzzer_sys::fuzz_target;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tracepoints::emit::{self, CHeader, COptions, RustModule};
use tracepoints::{EventName, Kernel, text::Addresses};
use tracepoints_fuzz::{
    are_plain_lines, context_laws, format_laws, is_json, is_plain, layout_laws, parts, record_laws,
};

/// Events and files of one input.
const EVENTS: usize = 12;
const FILES: usize = 48;

fuzz_target!(|data: &[u8]| {
    let dir = tempfile::tempdir().expect("a directory");
    let mut pages = Vec::new();
    for part in parts(data).into_iter().take(FILES) {
        if let Some(bytes) = unpack(dir.path(), part) {
            pages = bytes.to_vec();
        }
    }
    ask(dir.path(), &pages);
});

/// Writes one file of an input: a letter for what it is, its path up to a newline,
/// and what is in it. Bytes of a ring buffer are no file.
fn unpack<'a>(root: &Path, part: &'a [u8]) -> Option<&'a [u8]> {
    let (kind, part) = part.split_first()?;
    let line = part.iter().position(|byte| *byte == b'\n')?;
    let (path, content) = (std::str::from_utf8(&part[..line]).ok()?, &part[line + 1..]);
    if *kind == b'r' {
        return Some(content);
    }
    let path = root.join(inside(path)?);
    fs::create_dir_all(path.parent()?).ok()?;
    // Two files may want one place: the first has it.
    match kind {
        b'f' => {
            let mut file = fs::File::create_new(&path).ok()?;
            file.write_all(content).ok()?;
        }
        b'd' => drop(fs::create_dir(&path)),
        b'p' => drop(mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0)),
        b'l' => {
            let target = inside(std::str::from_utf8(content).ok()?)?;
            drop(symlink(root.join(target), &path));
        }
        _ => {}
    }
    None
}

/// The path if it stays inside the root. A capture's links could lead anywhere; what
/// is there is no part of the input.
fn inside(path: &str) -> Option<PathBuf> {
    let path = Path::new(path);
    let names = path.components().all(|part| match part {
        Component::Normal(name) => name.len() <= 255 && !name.as_encoded_bytes().contains(&0),
        _ => false,
    });
    (names && (1..=6).contains(&path.components().count())).then(|| path.to_owned())
}

fn ask(root: &Path, pages: &[u8]) {
    let kernel = match Kernel::at(root) {
        Ok(kernel) => kernel,
        Err(error) => return is_plain(&error.to_string()),
    };
    let mut names: Vec<EventName> = Vec::new();
    match kernel.events() {
        Ok(events) => {
            for line in events.rejected() {
                is_plain(&line.text);
            }
            names.extend(events);
        }
        Err(error) => is_plain(&error.to_string()),
    }
    match kernel.event_directories() {
        Ok(directories) => {
            for name in directories {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        Err(error) => is_plain(&error.to_string()),
    }
    names.truncate(EVENTS);

    let mut header = CHeader::new(COptions::default().assertions(true));
    let mut module = RustModule::new();
    for name in &names {
        let tracepoint = match kernel.tracepoint(name) {
            Ok(tracepoint) => tracepoint,
            Err(error) => {
                is_plain(&error.to_string());
                continue;
            }
        };
        let format = tracepoint.format();
        assert_eq!(format.name(), name.event());
        format_laws(&format.to_string(), format);
        match tracepoint.context() {
            Ok(context) => context_laws(format, &context),
            Err(error) => is_plain(&error.to_string()),
        }
        match tracepoint.sections() {
            Ok(sections) => sections.iter().for_each(|section| is_plain(section)),
            Err(error) => is_plain(&error.to_string()),
        }
        match tracepoint.raw() {
            Ok(raw) => raw.iter().for_each(|raw| is_plain(&raw.to_string())),
            Err(error) => is_plain(&error.to_string()),
        }
        match tracepoint.siblings() {
            Ok(siblings) => assert!(!siblings.contains(name)),
            Err(error) => is_plain(&error.to_string()),
        }
        for field in format.fields() {
            if let Ok(said) = tracepoint.field_print(field.name()) {
                is_json(&said);
            }
        }
        for error in [header.add(&tracepoint).err(), module.add(&tracepoint).err()] {
            error.iter().for_each(|error| is_plain(&error.to_string()));
        }
        for written in [
            emit::skeleton_c(&tracepoint),
            emit::skeleton_rust(&tracepoint),
        ] {
            match written {
                Ok(text) => are_plain_lines(&text),
                Err(error) => is_plain(&error.to_string()),
            }
        }
        for written in [
            emit::constants_c(&tracepoint),
            emit::constants_rust(&tracepoint),
        ] {
            match written {
                Ok(text) => are_plain_lines(&text),
                Err(error) => is_plain(&error.to_string()),
            }
        }
    }
    are_plain_lines(&header.to_string());
    are_plain_lines(&module.to_string());

    // Many at once are told what each alone is.
    match kernel.contexts(&names) {
        Ok(contexts) => {
            let contexts: Vec<_> = contexts.collect();
            assert_eq!(contexts.len(), names.len());
            for (name, together) in names.iter().zip(contexts) {
                let alone = kernel.tracepoint(name).and_then(|one| one.context());
                match (together, alone) {
                    (Ok((tracepoint, together)), Ok(alone)) => {
                        assert_eq!(tracepoint.name(), name);
                        assert_eq!(together.evidence(), alone.evidence());
                        assert_eq!(together.struct_name(), alone.struct_name());
                        let layouts = (together.layout().ok(), alone.layout().ok());
                        assert_eq!(layouts.0, layouts.1);
                        layouts.0.iter().for_each(layout_laws);
                    }
                    (Err(together), Err(alone)) => {
                        assert_eq!(together.to_string(), alone.to_string());
                    }
                    (together, alone) => panic!("{name}: {together:?} and {alone:?}"),
                }
            }
        }
        Err(error) => is_plain(&error.to_string()),
    }
    match kernel.btf_objects() {
        Ok(objects) => objects.iter().for_each(|name| is_plain(name)),
        Err(error) => is_plain(&error.to_string()),
    }
    match kernel.bare_tracepoints() {
        Ok(bare) => bare.iter().for_each(|raw| is_plain(&raw.to_string())),
        Err(error) => is_plain(&error.to_string()),
    }
    let _ = kernel.flag_columns();
    decode(&kernel, pages);
}

fn decode(kernel: &Kernel, pages: &[u8]) {
    let events = match kernel.events_by_id() {
        Ok(events) => events,
        Err(error) => return is_plain(&error.to_string()),
    };
    let layout = kernel.page_layout().expect("it was read for the machine");
    let machine = events.machine();
    let addresses = kernel.addresses().unwrap_or_else(|_| Addresses::new());
    for page in layout.pages(pages, machine.byte_order()).take(4).flatten() {
        for entry in page.entries().take(256).flatten() {
            match events.record(entry.bytes()) {
                Ok((name, record)) => {
                    assert_eq!(record.format().id(), entry.event_id().map(u32::from));
                    record_laws(&record);
                    if let Ok(renderer) = kernel.renderer(name, record.format(), machine) {
                        renderer.render(&record, &addresses, &mut String::new());
                    }
                }
                Err(error) => is_plain(&error.to_string()),
            }
        }
    }
}
