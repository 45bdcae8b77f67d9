//! A static page about the tracepoints of several kernels.

mod entry;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use clap::Args;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use tracepoints::diff::{EventChange, KernelDiff};
use tracepoints::emit::CAccessors;
use tracepoints::{EventName, Kernel};

use crate::capture::Files;
use crate::capture::out::Target;
use crate::diff;
use crate::kernel::{Identity, say_unreadable};
use crate::output::{self, Failure, plural, say, step_over};
use entry::{Change, Chunk, Entry};

/// Make a page for browsers that shows the tracepoints of several kernels side by side
///
/// The page needs no network and no server: open index.html. It has the events' fields and
/// offsets on each kernel, what changed between kernels of one architecture, the names of
/// values, raw arguments, and source to copy.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The kernels, each as for --root elsewhere
    #[arg(required = true, value_name = "ROOT")]
    roots: Vec<PathBuf>,
    /// The directory to create, or an archive by its name (.tar, .tar.gz, .tar.zst)
    #[arg(long, short, value_name = "OUT")]
    out: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  tracepoints explore captured/* -o site && xdg-open site/index.html
  tracepoints explore linux-image-*.deb -o site.tar.gz";

/// The page itself. All of its data are in files of their own.
const PAGE: [(&str, &str); 3] = [
    ("index.html", include_str!("page.html")),
    ("page.css", include_str!("page.css")),
    ("page.js", include_str!("page.js")),
];

pub(crate) fn main(arguments: &Arguments) -> ExitCode {
    output::run(true, |out| explore(arguments, out))
}

fn explore(arguments: &Arguments, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let target = Target::new(&arguments.out)?;
    let kernels = open(&arguments.roots)?;
    let mut code = ExitCode::SUCCESS;
    let mut events: BTreeMap<EventName, Entry> = BTreeMap::new();
    for (number, shown) in kernels.iter().enumerate() {
        for name in &shown.kernel.events()? {
            if let Err(error) =
                events
                    .entry(name.clone())
                    .or_default()
                    .add(number, &shown.kernel, name)
            {
                step_over(error, &mut code)?;
            }
        }
    }
    // Events that could be read on no kernel.
    events.retain(|_, entry| !entry.is_empty());
    add_changes(&kernels, &mut events)?;
    add_accessors(&kernels, &mut events);
    let count = events.len();
    let files = files(&kernels, events)?;
    let size = files.values().map(Vec::len).sum::<usize>();
    target.write(&files)?;
    writeln!(
        out,
        "{}: {} of {}, {} KiB",
        arguments.out.display(),
        plural(count as u64, "event", "s"),
        plural(kernels.len() as u64, "kernel", "s"),
        size.div_ceil(1024)
    )?;
    Ok(code)
}

/// A kernel and its name on the page.
struct Shown {
    label: String,
    architecture: Option<String>,
    kernel: Kernel,
}

/// Opens the kernels, and sorts them: the older of each pair comes first.
fn open(roots: &[PathBuf]) -> Result<Vec<Shown>, Failure> {
    let open = |root: &PathBuf| -> Result<Shown, Failure> {
        let kernel = Kernel::at(root)?;
        say_unreadable(&kernel);
        let identity = Identity::of(root, &kernel);
        Ok(Shown {
            label: label(root, &identity),
            architecture: identity.architecture().map(str::to_owned),
            kernel,
        })
    };
    let mut kernels = roots.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    kernels.sort_by_cached_key(|shown| numbers_and_words(&shown.label));
    // Two roots may be of one kernel.
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for shown in &mut kernels {
        let times = seen.entry(shown.label.clone()).or_default();
        *times += 1;
        if *times > 1 {
            shown.label = format!("{} ({times})", shown.label);
        }
    }
    Ok(kernels)
}

/// Returns release and machine, or the last part of the kernel's place: the whole path tells
/// about the machine that made the page.
fn label(root: &Path, identity: &Identity) -> String {
    match identity.release() {
        Some(_) => identity.label(),
        None => match root.file_name() {
            Some(name) => name.to_string_lossy().into_owned(),
            None => "kernel".to_owned(),
        },
    }
}

/// Returns what sorts `6.9` before `6.18`.
fn numbers_and_words(label: &str) -> Vec<(u64, String)> {
    let is_digit = |char: char| char.is_ascii_digit();
    let mut rest = label;
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let end = rest.find(|char| !is_digit(char)).unwrap_or(rest.len());
        let (digits, after) = rest.split_at(end);
        let end = after.find(is_digit).unwrap_or(after.len());
        let (word, after) = after.split_at(end);
        parts.push((digits.parse().unwrap_or(u64::MAX), word.to_owned()));
        rest = after;
    }
    parts
}

/// Adds what differs between each kernel and the one before it of the same architecture:
/// between architectures, nearly all events differ.
fn add_changes(kernels: &[Shown], events: &mut BTreeMap<EventName, Entry>) -> Result<(), Failure> {
    for (to, new) in kernels.iter().enumerate() {
        let older = kernels[..to].iter().enumerate().rev();
        let mut older = older.filter(|(_, old)| old.architecture == new.architecture);
        let Some((from, old)) = older.next() else {
            continue;
        };
        let diff = KernelDiff::between(&old.kernel, &new.kernel)?;
        for reason in diff.unreadable() {
            say!("{} and {}: not compared: {reason}", old.label, new.label);
        }
        for event in diff.events() {
            let lines = match event.change() {
                EventChange::Gone => vec!["gone".to_owned()],
                EventChange::New => vec!["new".to_owned()],
                _ => diff::lines(event),
            };
            if let Some(entry) = events.get_mut(event.event()) {
                entry.changes.push(Change { from, to, lines });
            }
        }
    }
    Ok(())
}

/// Adds source that is right on each kernel that has the event, where there is such source.
fn add_accessors(kernels: &[Shown], events: &mut BTreeMap<EventName, Entry>) {
    for (name, entry) in events {
        let having = entry.kernels().map(|number| &kernels[number]);
        let having = having.map(|shown| (shown.label.clone(), shown.kernel.clone()));
        let mut accessors = CAccessors::new(having);
        if accessors.add(name).is_ok() {
            entry.accessors = accessors.to_string().into();
        }
    }
}

/// The data that the page needs before an event is chosen.
#[derive(Serialize)]
struct Index<'a> {
    kernels: Vec<&'a str>,
    events: Vec<IndexRow<'a>>,
}

#[derive(Serialize)]
struct IndexRow<'a> {
    event: &'a EventName,
    /// The file with the rest.
    chunk: usize,
    kernels: Vec<usize>,
    fields: Vec<String>,
}

fn files(kernels: &[Shown], events: BTreeMap<EventName, Entry>) -> Result<Files, Failure> {
    let mut files: Files = PAGE
        .iter()
        .map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec()))
        .collect();
    let mut chunks: BTreeMap<&str, Chunk<'_>> = BTreeMap::new();
    for (name, entry) in &events {
        chunks.entry(name.category()).or_default().add(name, entry);
    }
    // By number: file systems may take `rcu` and `RCU` for the same name.
    let numbers: BTreeMap<&str, usize> = chunks.keys().copied().zip(0..).collect();
    let row = |(event, entry): (_, &Entry)| IndexRow {
        event,
        chunk: numbers[EventName::category(event)],
        kernels: entry.kernels().collect(),
        fields: entry.field_names(),
    };
    let index = Index {
        kernels: kernels.iter().map(|shown| &*shown.label).collect(),
        events: events.iter().map(row).collect(),
    };
    files.insert("data/index.js".to_owned(), script("index", &index)?);
    for (category, chunk) in &chunks {
        let number = numbers[category].to_string();
        files.insert(format!("data/{number}.js"), script(&number, chunk)?);
    }
    Ok(files)
}

/// Returns a script that hands the page its data: a page opened as a file may load scripts,
/// and nothing else. Base64 keeps what kernels contain from being read as source.
fn script(name: &str, data: &impl Serialize) -> Result<Vec<u8>, Failure> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    serde_json::to_writer(&mut packed, data)?;
    let packed = packed.finish()?;
    let text = BASE64_STANDARD.encode(packed);
    Ok(format!("tracepoints(\"{name}\", \"{text}\");\n").into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_kernels_come_first() {
        let mut labels = [
            "6.18.15 x86_64",
            "5.10.223 x86_64",
            "6.9.1 x86_64",
            "6.18.15 i686",
            "next",
        ];
        labels.sort_by_cached_key(|label| numbers_and_words(label));
        assert_eq!(
            labels,
            [
                "5.10.223 x86_64",
                "6.9.1 x86_64",
                "6.18.15 i686",
                "6.18.15 x86_64",
                "next"
            ]
        );
    }
}
