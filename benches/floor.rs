//! How near the floor discovery is, on the running kernel: whole processes, each
//! round running all in turn, so that the machine's moods are everybody's.
//!
//! The floor is what cannot be saved: this program with `--floor` reads every format
//! file and vmlinux's BTF, and parses nothing.
//!
//! `cargo bench --bench floor` as root, with tracefs mounted; `-- --root DIR` for a
//! captured kernel, `-- --runs N` for more than 21 rounds.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, process};

use tracepoints::Kernel;

fn main() -> io::Result<()> {
    let mut arguments = env::args().skip(1);
    let mut root = None;
    let mut runs = 21;
    let mut is_floor = false;
    while let Some(argument) = arguments.next() {
        match &*argument {
            "--floor" => is_floor = true,
            "--root" => root = arguments.next().map(PathBuf::from),
            "--runs" => {
                runs = arguments
                    .next()
                    .and_then(|n| n.parse().ok())
                    .unwrap_or(runs)
            }
            // Cargo's own.
            "--bench" => {}
            other => {
                eprintln!("floor: {other} is not known");
                process::exit(2);
            }
        }
    }
    let kernel = root.clone().unwrap_or_else(|| "/sys/kernel".into());
    if is_floor {
        return read_all(&kernel);
    }
    if !kernel.join("tracing/available_events").exists() {
        eprintln!(
            "floor: SKIPPED: no {}/tracing/available_events: run as root with tracefs mounted, or with --root DIR",
            kernel.display()
        );
        return Ok(());
    }
    compare(root.as_deref(), runs)?;
    match root {
        None => again(runs),
        Some(_) => Ok(()),
    }
}

/// All contexts of the running kernel in one process, and the same again.
fn again(runs: usize) -> io::Result<()> {
    let (mut firsts, mut ratios) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let kernel = Kernel::live().map_err(io::Error::other)?;
        let names = kernel.events().map_err(io::Error::other)?;
        let sweep = || {
            let start = Instant::now();
            let found = kernel.contexts(names.names()).map_err(io::Error::other)?;
            assert_eq!(found.filter(Result::is_ok).count(), names.len());
            Ok::<_, io::Error>(start.elapsed().as_secs_f64() * 1e3)
        };
        let (first, second) = (sweep()?, sweep()?);
        firsts.push(first);
        ratios.push(second / first);
    }
    let (first, ratio) = (median(&mut firsts), median(&mut ratios));
    println!("all contexts in one process: {first:.2} ms, again {ratio:.2} of that");
    Ok(())
}

/// The floor: what any program that lists contexts must read.
fn read_all(kernel: &Path) -> io::Result<()> {
    let names = fs::read_to_string(kernel.join("tracing/available_events"))?;
    let mut buffer = vec![0; 1 << 16];
    let mut bytes = 0;
    let mut files = 0;
    let mut path = String::new();
    let events = kernel.join("tracing/events");
    let events = events.to_str().ok_or(io::ErrorKind::InvalidInput)?;
    for name in names.lines() {
        path.clear();
        path.push_str(events);
        path.push('/');
        path.extend(name.chars().map(|c| if c == ':' { '/' } else { c }));
        path.push_str("/format");
        bytes += read(&path, &mut buffer)?;
        files += 1;
    }
    // All of it is kept, as whoever parses it must.
    let btf = kernel.join("btf/vmlinux");
    let mut kept = vec![0; usize::try_from(btf.metadata()?.len()).unwrap_or(0) + 1];
    let mut file = File::open(btf)?;
    let mut length = 0;
    while let count @ 1.. = file.read(&mut kept[length..])? {
        length += count;
    }
    println!("{files} format files of {bytes} bytes, BTF of {length} bytes");
    Ok(())
}

fn read(path: &str, buffer: &mut [u8]) -> io::Result<usize> {
    let mut file = File::open(path)?;
    let mut length = 0;
    while let count @ 1.. = file.read(buffer)? {
        length += count;
    }
    Ok(length)
}

fn compare(root: Option<&Path>, runs: usize) -> io::Result<()> {
    let build = Command::new(env!("CARGO"))
        .args(["build", "--release", "-p", "tracepoints-cli", "--quiet"])
        .status()?;
    assert!(build.success(), "the command builds");
    let this = env::current_exe()?;
    let profile = this
        .parent()
        .and_then(Path::parent)
        .expect("target/release");
    let tracepoints = profile.join("tracepoints").display().to_string();
    let this = this.display().to_string();
    let root = root.map(|root| root.display().to_string());
    let of_root: Vec<&str> = root.iter().flat_map(|root| ["--root", root]).collect();
    let own = |program: &str, arguments: &[&str]| -> Vec<String> {
        let program = [program].into_iter();
        let arguments = program.chain(arguments.iter().copied());
        arguments
            .chain(of_root.iter().copied())
            .map(str::to_owned)
            .collect()
    };
    let mut commands = vec![
        ("floor", own(&this, &["--floor"])),
        ("list --json", own(&tracepoints, &["list", "--json"])),
        ("list --names", own(&tracepoints, &["list", "--names"])),
        (
            "format ONE",
            own(&tracepoints, &["format", "sched:sched_process_exit"]),
        ),
    ];
    if root.is_none() {
        let peers: [(&str, &[&str]); 4] = [
            ("bpftrace -l", &["bpftrace", "-l", "tracepoint:*"]),
            ("bpftrace -lv", &["bpftrace", "-lv", "tracepoint:*"]),
            (
                "bpftrace -lv ONE",
                &["bpftrace", "-lv", "tracepoint:sched:sched_process_exit"],
            ),
            (
                "bpftool, BTF to C",
                &[
                    "bpftool",
                    "btf",
                    "dump",
                    "file",
                    "/sys/kernel/btf/vmlinux",
                    "format",
                    "c",
                ],
            ),
        ];
        for (name, command) in peers {
            let command: Vec<String> = command.iter().map(|&word| word.to_owned()).collect();
            match time(&command) {
                Ok(_) => commands.push((name, command)),
                Err(error) => eprintln!("floor: SKIPPED: {name}: {error}"),
            }
        }
    }
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); commands.len()];
    // The first round warms the caches.
    for round in 0..=runs {
        for ((_, command), times) in commands.iter().zip(&mut times) {
            let took = time(command)?;
            if round > 0 {
                times.push(took);
            }
        }
    }
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{:20} {:>9} {:>9}  of the floor",
        "medians of runs", "ms", "least"
    )?;
    let floor = times[0].clone();
    for ((name, _), times) in commands.iter().zip(&times) {
        let ratios = times.iter().zip(&floor);
        let mut ratios: Vec<f64> = ratios
            .map(|(time, floor)| time.as_secs_f64() / floor.as_secs_f64())
            .collect();
        let mut millis: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        let (median, ratio) = (median(&mut millis), median(&mut ratios));
        writeln!(out, "{name:20} {median:9.2} {:9.2}  {ratio:.2}", millis[0])?;
    }
    Ok(())
}

fn time(command: &[String]) -> io::Result<Duration> {
    let (program, arguments) = command.split_first().expect("a program");
    let start = Instant::now();
    let status = Command::new(program)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    let took = start.elapsed();
    match status.success() {
        true => Ok(took),
        false => Err(io::Error::other(format!("{program}: {status}"))),
    }
}

/// Sorts the values.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
