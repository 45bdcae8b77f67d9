//! Writes the events of many kernels as tables: see docs/catalog.md.

mod of_kernel;
pub(crate) mod table;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tracepoints::Kernel;

use crate::capture::Target;
use crate::kernel::{Identity, say_unreadable};
use crate::output::{self, Failure, Progress, note, plural, say};
use of_kernel::KernelTables;
use table::{Row, Table};

/// Write the events, fields and arguments of many kernels as tables, in Parquet
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Kernels: captures, archives, packages, images, as for --root elsewhere
    #[arg(value_name = "ROOT", required = true)]
    roots: Vec<PathBuf>,
    /// The directory to create
    #[arg(long, short, value_name = "DIR")]
    out: PathBuf,
    /// Write JSON Lines beside the Parquet files
    #[arg(long)]
    jsonl: bool,
}

const EXAMPLES: &str = "\
Examples:
  tracepoints catalog captured/* -o catalog
  tracepoints catalog linux-image-*.deb server-*.tar.zst -o catalog
  duckdb -c \"SELECT * FROM 'catalog/fields/**/*.parquet' WHERE event = 'sched:sched_switch'\"";

pub(crate) fn main(arguments: &Arguments) -> ExitCode {
    output::run(false, |out| catalog(arguments, out))
}

fn catalog(arguments: &Arguments, _: &mut dyn Write) -> Result<ExitCode, Failure> {
    let mut roots = arguments.roots.clone();
    roots.sort();
    if let Some(same) = roots.windows(2).find(|pair| pair[0] == pair[1]) {
        let name = same[0].display();
        return Err(Failure::Other(format!("{name} is given twice")));
    }
    let target = Target::directory(&arguments.out)?;
    let mut code = ExitCode::SUCCESS;
    // The number of kernels in each partition.
    let mut partitions: BTreeMap<String, usize> = BTreeMap::new();
    let all = arguments.roots.len() as u64;
    let mut progress = Progress::when(all > 4, "reading kernels");
    let (mut kernels, mut events) = (0_u64, 0);
    for (index, root) in roots.iter().enumerate() {
        progress.update(index as u64, all);
        let name = root.display().to_string();
        let tables = Kernel::at(root).and_then(|kernel| {
            say_unreadable(&kernel);
            let identity = Identity::of(root, &kernel);
            Ok((KernelTables::read(&name, &identity, &kernel)?, identity))
        });
        let (tables, identity) = match tables {
            Ok(read) => read,
            Err(error) => {
                say!("{name} is left out: {}", output::with_causes(&error));
                code = ExitCode::FAILURE;
                continue;
            }
        };
        let partition = format!(
            "release={}/arch={}",
            partition_value(identity.release()),
            partition_value(identity.architecture())
        );
        let number = partitions.entry(partition.clone()).or_default();
        for (table, rows) in tables.all() {
            let place = format!("{partition}/{number}");
            put(&target, arguments.jsonl, table, &place, rows)?;
        }
        *number += 1;
        kernels += 1;
        events += tables.events.len();
        if tables.unreadable > 0 {
            let count = plural(tables.unreadable, "event", "s");
            say!("{name}: {count} cannot be read: see the column error");
            code = ExitCode::FAILURE;
        }
    }
    progress.end();
    if kernels == 0 {
        return Err(Failure::Other("no kernel could be read".to_owned()));
    }
    target.finish()?;
    note!(
        "{} of {} in {}",
        plural(events as u64, "event", "s"),
        plural(kernels, "kernel", "s"),
        arguments.out.display()
    );
    Ok(code)
}

/// Writes a table, or the part of it that is of one kernel.
pub(crate) fn put(
    target: &Target,
    has_json_lines: bool,
    table: &Table,
    place: &str,
    rows: &[Row],
) -> Result<(), Failure> {
    let path = format!("{}/{place}", table.name);
    target.put(&format!("{path}.parquet"), &table.parquet(rows)?)?;
    if has_json_lines {
        target.put(&format!("{path}.jsonl"), &table.json_lines(rows)?)?;
    }
    Ok(())
}

/// Returns the value of a partition as Hive writes it: a name of a directory, with all that
/// may have a meaning there as `%` and two digits.
fn partition_value(value: Option<&str>) -> String {
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        return "__HIVE_DEFAULT_PARTITION__".to_owned();
    };
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_+~.".contains(byte);
    let bytes = value.bytes().enumerate();
    bytes
        .map(
            |(index, byte)| match is_plain(&byte) && (index > 0 || byte != b'.') {
                true => char::from(byte).to_string(),
                false => format!("%{byte:02X}"),
            },
        )
        .collect()
}
