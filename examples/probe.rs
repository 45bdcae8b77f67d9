//! Prints who starts which program on the running kernel, in ten seconds or in as many
//! as are given. Takes root: `probe [SECONDS]`.

use std::error::Error;
use std::io::Write;
use std::time::{Duration, Instant};

use tracepoints::Kernel;
use tracepoints::probe::Probe;

fn main() -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout().lock();
    let seconds = std::env::args()
        .nth(1)
        .map_or(Ok(10), |text| text.parse())?;
    let end = Instant::now() + Duration::from_secs(seconds);
    let kernel = Kernel::live()?;
    let exec = kernel.tracepoint("sched:sched_process_exec")?;
    // The program is generated here, for the context this kernel gives it; the filter
    // runs in it.
    let mut probe = Probe::builder([&exec])
        .fields(["filename"])
        .filter("filename != \"/bin/true\"".parse()?)
        .attach()?;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        probe.wait(Some(left))?;
        for record in probe.records() {
            let filename = record.field("filename").ok_or("asked for above")?;
            writeln!(out, "{} {filename}", record.task().pid)?;
        }
    }
    writeln!(out, "lost: {:?}", probe.losses()?)?;
    Ok(())
}
