//! The reads of programs, as tables: see docs/catalog.md.

use std::collections::HashMap;
use std::path::Path;
use std::process::ExitCode;

use tracepoints::ByteOrder;
use tracepoints::audit::{AuditedKernel, ProgramFacts, ReadFact, Verdict};

use super::{Arguments, Named, each_kernel};
use crate::capture::Target;
use crate::catalog::put;
use crate::catalog::table::ColumnType::{Number, Text, Truth};
use crate::catalog::table::{Cell, Row, Table};
use crate::output::{Failure, Progress, note, plural};

const PROGRAMS: Table = Table {
    name: "programs",
    columns: &[
        ("object", Text, false),
        ("program", Text, false),
        ("section", Text, false),
        ("program_type", Text, false),
        ("target", Text, true),
        ("byte_order", Text, false),
        ("has_relocations", Truth, false),
    ],
};

const VARIANTS: Table = Table {
    name: "variants",
    columns: &[
        ("object", Text, false),
        ("program", Text, false),
        ("kernel", Text, false),
        ("variant", Number, false),
    ],
};

const READS: Table = Table {
    name: "reads",
    columns: &[
        ("object", Text, false),
        ("program", Text, false),
        ("variant", Number, false),
        ("position", Number, false),
        ("kind", Text, false),
        ("function", Text, true),
        ("instruction", Number, false),
        ("is_load", Truth, false),
        ("is_moved", Truth, false),
        ("is_handed_on", Truth, false),
        ("is_guarded", Truth, false),
        ("read_offset", Number, true),
        ("read_size", Number, true),
        ("path", Text, true),
        ("member", Text, true),
        ("behind", Number, true),
        ("member_offset", Number, true),
        ("member_size", Number, true),
        ("own_size", Number, true),
        ("is_kernels", Truth, false),
        ("found_home", Text, true),
        ("found_type", Number, true),
        ("decided", Text, true),
        ("reason", Text, true),
    ],
};

/// The rows of all tables.
#[derive(Default)]
struct Rows {
    programs: Vec<Row>,
    variants: Vec<Row>,
    reads: Vec<Row>,
}

/// The variants of an object's programs: each set of reads, by program, with its number.
type Variants = HashMap<String, HashMap<Vec<ReadFact>, usize>>;

impl Rows {
    fn add(&mut self, named: &Named, kernel: &str, facts: ProgramFacts, variants: &mut Variants) {
        let object = named.name.as_str();
        let ProgramFacts { program, reads, .. } = &facts;
        if !variants.contains_key(program) {
            let byte_order = match named.object.byte_order() {
                ByteOrder::Little => "little",
                ByteOrder::Big => "big",
            };
            self.programs.push(vec![
                object.into(),
                program.as_str().into(),
                facts.section.as_str().into(),
                facts.kind.as_str().into(),
                facts.event.as_deref().into(),
                byte_order.into(),
                named.object.has_relocations().into(),
            ]);
        }
        let known = variants.entry(program.clone()).or_default();
        let number = known.len();
        let variant = match known.get(reads) {
            Some(variant) => *variant,
            None => {
                known.insert(reads.clone(), number);
                for (position, read) in reads.iter().enumerate() {
                    let mut row: Row = vec![
                        object.into(),
                        program.as_str().into(),
                        number.into(),
                        position.into(),
                    ];
                    row.extend(read_cells(read));
                    self.reads.push(row);
                }
                number
            }
        };
        self.variants.push(vec![
            object.into(),
            program.as_str().into(),
            kernel.into(),
            variant.into(),
        ]);
    }
}

fn read_cells(read: &ReadFact) -> [Cell; 20] {
    let (home, type_id) = read.found_in.clone().unzip();
    [
        read.kind.as_str().into(),
        read.function.as_deref().into(),
        read.instruction.into(),
        read.is_load.into(),
        read.is_moved.into(),
        read.is_handed_on.into(),
        read.is_guarded.into(),
        read.offset.into(),
        read.size.into(),
        read.path.as_deref().into(),
        read.member.as_deref().into(),
        read.behind.into(),
        read.member_offset.into(),
        read.member_size.into(),
        read.own_size.into(),
        read.is_kernels.into(),
        home.into(),
        type_id.into(),
        read.verdict.map(Verdict::as_str).into(),
        read.reason.as_deref().into(),
    ]
}

/// Writes the tables of all objects on all kernels.
pub(super) fn emit(
    arguments: &Arguments,
    objects: &[Named],
    out: &Path,
) -> Result<ExitCode, Failure> {
    let target = Target::directory(out)?;
    let mut rows = Rows::default();
    let mut variants: Vec<Variants> = objects.iter().map(|_| Variants::new()).collect();
    let given = arguments.kernels.len();
    let mut progress = Progress::when(given > 4, "reading programs");
    let mut count: u64 = 0;
    each_kernel(&arguments.kernels, |name, kernel| {
        progress.update(count, given as u64);
        count += 1;
        let kernel = AuditedKernel::new(&kernel);
        for (named, variants) in objects.iter().zip(&mut variants) {
            for facts in named.object.facts_on(&kernel)? {
                rows.add(named, &name, facts, variants);
            }
        }
        Ok(())
    })?;
    progress.end();
    let tables = [
        (&PROGRAMS, &rows.programs),
        (&VARIANTS, &rows.variants),
        (&READS, &rows.reads),
    ];
    for (table, rows) in tables {
        put(&target, arguments.jsonl, table, "0", rows)?;
    }
    target.finish()?;
    note!(
        "{} of {} on {} in {}",
        plural(rows.reads.len() as u64, "read", "s"),
        plural(rows.programs.len() as u64, "program", "s"),
        plural(count, "kernel", "s"),
        out.display()
    );
    Ok(ExitCode::SUCCESS)
}
