//! Captures a kernel: the running one, or one that was never booted.

pub(crate) mod out;
mod partial;
#[cfg(target_os = "linux")]
mod ring;

pub(crate) use out::Target;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use tracepoints::kernel::{BtfKernel, Capture};
use tracepoints::{EventPattern, Kernel};

use crate::kernel::{ModuleChoice, is_out_of_reach, say_unreadable};
use crate::output::{self, Failure, plural, say};

/// Write what is needed of the running kernel, or of one never booted, as a root for --root
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// A kernel that was never booted, instead of the running one: a package, an unpacked
    /// one, a vmlinuz or a vmlinux
    #[arg(long, value_name = "PATH")]
    image: Option<PathBuf>,
    #[command(flatten)]
    modules: ModuleChoice,
    /// Also the addresses of functions, by which records are printed; they say where this
    /// kernel is in memory
    #[arg(long, conflicts_with = "image")]
    symbols: bool,
    /// Also what the command does: pages of the ring buffer with these events of it and of
    /// what it starts, in ring/
    #[arg(
        long,
        value_name = "EVENT",
        num_args = 1..,
        requires = "command",
        conflicts_with = "image"
    )]
    ring: Vec<EventPattern>,
    /// What to write, which must not exist: a directory, or an archive by its name
    /// (.tar, .tar.gz, .tar.zst)
    #[arg(value_name = "OUT")]
    out: PathBuf,
    /// The command that is traced
    #[arg(last = true, requires = "ring", value_name = "COMMAND")]
    command: Vec<OsString>,
}

const EXAMPLES: &str = "\
Examples:
  tracepoints capture $(uname -r).tar.zst
  tracepoints list --root 6.18.15.tar.zst 'sched:*'
  tracepoints capture --image linux-image-6.12.deb captured/6.12
  tracepoints capture captured --ring 'sched:*' 'syscalls:*' -- ls /";

pub(crate) fn main(arguments: &Arguments) -> ExitCode {
    output::run(true, |out| capture(arguments, out))
}

/// The files of a capture or of a site, by their paths.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

fn capture(arguments: &Arguments, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let target = out::Target::new(&arguments.out)?;
    if let Some(image) = &arguments.image {
        let files = of_image(image, &arguments.modules)?;
        write(target, &files, &arguments.out, out)?;
        return Ok(ExitCode::SUCCESS);
    }
    arguments.modules.need_root()?;
    let (captured, ring, code) = of_running(arguments)?;
    let files = captured.files();
    let mut files: Files = files
        .map(|(path, bytes)| (path.to_owned(), bytes.to_vec()))
        .collect();
    let pages = ring.len();
    files.extend(ring);
    write(target, &files, &arguments.out, out)?;
    writeln!(out, "{}", told(&captured, pages))?;
    for left_out in captured.left_out() {
        say!("left out: {left_out}");
    }
    Ok(code)
}

fn write(
    target: out::Target,
    files: &Files,
    path: &Path,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let count = plural(files.len() as u64, "file", "s");
    target.write(files)?;
    writeln!(out, "{count} in {}", path.display())?;
    Ok(())
}

/// `2305 events, 1 BTF object, 229 classes by the kernel's memory`.
fn told(capture: &Capture, pages: usize) -> String {
    let summary = capture.summary();
    let mut parts = vec![
        plural(summary.events as u64, "event", "s"),
        plural(summary.btf_objects as u64, "BTF object", "s"),
    ];
    if summary.classes > 0 {
        let classes = plural(summary.classes as u64, "class", "es");
        parts.push(format!("{classes} by the kernel's memory"));
    }
    if summary.symbols > 0 {
        parts.push(plural(summary.symbols as u64, "function", "s"));
    }
    if pages > 0 {
        parts.push(format!("{} in ring/", plural(pages as u64, "file", "s")));
    }
    parts.join(", ")
}

fn of_image(path: &Path, modules: &ModuleChoice) -> Result<Files, Failure> {
    let kernel = modules.open(path)?;
    if !kernel.is_image() {
        return Err(Failure::Other(format!(
            "{} is a captured kernel already",
            path.display()
        )));
    }
    say_unreadable(&kernel);
    let files = kernel.image_files();
    Ok(files
        .map(|(path, bytes)| (path.to_owned(), bytes.to_vec()))
        .collect())
}

/// The running kernel, the ring buffer's files, and the status to end with.
fn of_running(arguments: &Arguments) -> Result<(Capture, Files, ExitCode), Failure> {
    let kernel = match Kernel::live() {
        Ok(kernel) => kernel,
        Err(error) if is_out_of_reach(&error) && arguments.ring.is_empty() => {
            let captured = BtfKernel::live().capture()?;
            return Ok((captured, Files::new(), ExitCode::SUCCESS));
        }
        Err(error) => return Err(error.into()),
    };
    let (ring, code) = ring_files(&kernel, arguments)?;
    let captured = kernel.capture(arguments.symbols)?;
    Ok((captured, ring, code))
}

#[cfg(target_os = "linux")]
fn ring_files(kernel: &Kernel, arguments: &Arguments) -> Result<(Files, ExitCode), Failure> {
    match arguments.ring.as_slice() {
        [] => Ok((Files::new(), ExitCode::SUCCESS)),
        patterns => ring::record(kernel, patterns, &arguments.command),
    }
}

#[cfg(not(target_os = "linux"))]
fn ring_files(_: &Kernel, _: &Arguments) -> Result<(Files, ExitCode), Failure> {
    Ok((Files::new(), ExitCode::SUCCESS))
}
