//! Writes a kernel's image as a captured kernel.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use tracepoints::Kernel;

use crate::kernel::say_unreadable;
use crate::output::{self, Failure};

/// Write a kernel that was never booted as a directory like a captured one
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The kernel: a package, an unpacked one, a vmlinuz or a vmlinux
    #[arg(long, value_name = "PATH")]
    image: PathBuf,
    /// The directory, which must not exist
    #[arg(value_name = "DIR")]
    out: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  tracepoints capture --image linux-image-6.12.deb captured/6.12
  tracepoints list --root captured/6.12 'sched:*'";

pub(crate) fn main(arguments: &Arguments) -> ExitCode {
    output::run(true, |out| capture(arguments, out))
}

fn capture(arguments: &Arguments, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let kernel = Kernel::at(&arguments.image)?;
    if !kernel.is_image() {
        return Err(Failure::Other(format!(
            "{} is a captured kernel already",
            arguments.image.display()
        )));
    }
    say_unreadable(&kernel);
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |error: io::Error| Failure::Other(format!("cannot write {path}: {error}"))
    };
    fs::create_dir(&arguments.out).map_err(failed(&arguments.out))?;
    let mut count = 0;
    for (path, bytes) in kernel.image_files() {
        let path = arguments.out.join(path);
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(failed(directory))?;
        }
        fs::write(&path, bytes).map_err(failed(&path))?;
        count += 1;
    }
    writeln!(out, "{count} files in {}", arguments.out.display())?;
    Ok(ExitCode::SUCCESS)
}
