//! Shows all that is known of a tracepoint: what one wants before writing a
//! probe.

mod shared;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use serde::Serialize;
use shared::{Failure, with_causes};
use tracepoints::emit::{self, CHeader, COptions, RustModule};
use tracepoints::format::print::FieldPrint;
use tracepoints::format::{Field, FieldKind, Repair};
use tracepoints::{
    Context, Error, EventName, EventPattern, Evidence, Kernel, Tracepoint, context::RawTracepoint,
    kernel::Events, layout::Slot,
};

/// Shows a tracepoint's context struct, its sections and its fields.
#[derive(Parser)]
#[command(name = "format")]
struct Arguments {
    /// A captured kernel, laid out like /sys/kernel, instead of the live one.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    /// The arguments raw_tp and tp_btf programs get.
    #[arg(long, conflicts_with_all = ["json", "emit"])]
    raw: bool,
    /// Source text to paste instead.
    #[arg(long, value_name = "WHAT", conflicts_with = "json")]
    emit: Option<Emit>,
    /// Which events: sched:sched_switch, block:*, ….
    #[arg(required = true, value_name = "EVENT|PATTERN")]
    patterns: Vec<EventPattern>,
}

/// What `--emit` emits.
#[derive(Clone, Copy, ValueEnum)]
enum Emit {
    /// The context structs in C, with all they need, and assertions.
    C,
    /// The same for CO-RE: libbpf relocates it to other kernels.
    Core,
    /// The context structs in Rust, with assertions.
    Rust,
    /// A program in C for libbpf.
    SkelC,
    /// A program in Rust for aya.
    SkelRust,
    /// The context's layout, one JSON object a line.
    Json,
}

/// All that is known of one event.
#[derive(Serialize)]
struct Description<'a> {
    event: &'a EventName,
    category: &'a str,
    name: &'a str,
    id: u32,
    section: Option<String>,
    sections: Vec<String>,
    context: Context,
    type_id: Option<u32>,
    reason: String,
    raw: Option<RawTracepoint>,
    siblings: Vec<EventName>,
    fields: Vec<FieldRow<'a>>,
    print_fmt: &'a str,
    #[serde(skip_serializing_if = "<[Repair]>::is_empty")]
    repairs: &'a [Repair],
}

/// A field of the record, and where the context has it.
#[derive(Serialize)]
struct FieldRow<'a> {
    #[serde(flatten)]
    field: &'a Field,
    common: bool,
    in_record: bool,
    in_context: bool,
    context_slot: Option<Slot>,
    /// What the print fmt tells of it.
    print: FieldPrint,
}

impl<'a> Description<'a> {
    fn of(tracepoint: &'a Tracepoint) -> Result<Self, Error> {
        let name = tracepoint.name();
        let format = tracepoint.format();
        let context = tracepoint.context()?;
        let slots = context.field_slots()?;
        let row = |field: &'a Field, common, slot: Option<Slot>| FieldRow {
            field,
            common,
            in_record: true,
            in_context: slot.is_some(),
            context_slot: slot,
            // What cannot be read tells nothing; the text itself is there.
            print: tracepoint
                .field_print(Field::name(field))
                .unwrap_or_default(),
        };
        let common = format
            .common_fields()
            .iter()
            .map(|field| row(field, true, None));
        let own = format
            .fields()
            .iter()
            .zip(slots)
            .map(|(field, slot)| row(field, false, slot));
        let sections = tracepoint.sections()?;
        Ok(Self {
            event: name,
            category: name.category(),
            name: name.event(),
            id: tracepoint.id(),
            section: sections.first().cloned(),
            sections,
            type_id: context.type_id(),
            raw: tracepoint.raw()?,
            reason: context.evidence().to_string(),
            siblings: tracepoint.siblings()?,
            fields: common.chain(own).collect(),
            print_fmt: format.print_fmt(),
            repairs: format.repairs(),
            context,
        })
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    shared::run("format", !arguments.json, |out| format(&arguments, out))
}

fn format(arguments: &Arguments, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let kernel = shared::kernel("format", arguments.root.as_ref())?;
    if arguments.raw {
        return write_raw(kernel, &arguments.patterns, out);
    }
    let names = kernel.select(&arguments.patterns)?;
    if let Some(emit) = arguments.emit {
        return write_emitted(kernel, &names, emit, out);
    }
    let mut code = ExitCode::SUCCESS;
    for (index, name) in names.into_iter().enumerate() {
        let tracepoint = match kernel.tracepoint(&name) {
            Ok(tracepoint) => tracepoint,
            Err(error) => {
                step_over(error, &mut code)?;
                continue;
            }
        };
        let description = match Description::of(&tracepoint) {
            Ok(description) => description,
            Err(error) => {
                step_over(error, &mut code)?;
                continue;
            }
        };
        if arguments.json {
            serde_json::to_writer(&mut *out, &description)?;
            writeln!(out)?;
        } else {
            if index > 0 {
                writeln!(out)?;
            }
            write_text(&description, out)?;
        }
    }
    Ok(code)
}

/// Reports an error that concerns one event alone, and returns any other.
fn step_over(error: Error, code: &mut ExitCode) -> Result<(), Failure> {
    match error {
        // Of a pattern's events, one may go meanwhile.
        Error::EventGone { .. } => {}
        _ if error.is_of_one_event() => *code = ExitCode::FAILURE,
        _ => return Err(error.into()),
    }
    eprintln!("format: {}", with_causes(&error));
    Ok(())
}

/// The arguments of the tracepoints behind events, and of those without one.
fn write_raw(
    kernel: &Kernel,
    patterns: &[EventPattern],
    out: &mut dyn Write,
) -> Result<ExitCode, Failure> {
    for pattern in patterns {
        // A tracepoint without an event has a name, and no category.
        if let Ok(raw) = kernel.raw_tracepoint(&pattern.to_string()) {
            write_raw_tracepoint(&raw, out)?;
            continue;
        }
        for name in &kernel.select(std::slice::from_ref(pattern))? {
            match kernel.tracepoint(name)?.raw()? {
                Some(raw) => write_raw_tracepoint(&raw, out)?,
                None => eprintln!("format: {name}: BTF has no raw tracepoint behind it"),
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn write_raw_tracepoint(raw: &RawTracepoint, out: &mut dyn Write) -> Result<(), Failure> {
    let [raw_tp, tp_btf] = raw.sections();
    writeln!(out, "{raw}")?;
    writeln!(out, "  home  {}", raw.home())?;
    writeln!(
        out,
        "  SEC   {raw_tp}  struct bpf_raw_tracepoint_args *ctx: args[0] to args[{}]",
        raw.arguments().len().saturating_sub(1)
    )?;
    writeln!(out, "        {tp_btf}  BPF_PROG(on_{}, …)", raw.name())?;
    Ok(())
}

/// The events' contexts as source text.
fn write_emitted(
    kernel: &Kernel,
    names: &Events,
    what: Emit,
    out: &mut dyn Write,
) -> Result<ExitCode, Failure> {
    let options = COptions::default();
    let mut header = CHeader::new(match what {
        Emit::Core => options.preserve_access_index(true),
        _ => options.assertions(true),
    });
    let mut module = RustModule::new();
    let mut constants = String::new();
    for name in names {
        let tracepoint = kernel.tracepoint(name)?;
        match what {
            Emit::C | Emit::Core => {
                header.add(&tracepoint)?;
                constants += &emit::constants_c(&tracepoint).unwrap_or_default();
            }
            Emit::Rust => {
                module.add(&tracepoint)?;
                constants += &emit::constants_rust(&tracepoint).unwrap_or_default();
            }
            Emit::SkelC => write!(out, "{}", emit::skeleton_c(&tracepoint)?)?,
            Emit::SkelRust => write!(out, "{}", emit::skeleton_rust(&tracepoint)?)?,
            Emit::Json => {
                let context = tracepoint.context()?;
                let layout = context.layout()?;
                let line =
                    serde_json::json!({ "event": name, "context": context, "layout": layout });
                writeln!(out, "{line}")?;
            }
        }
    }
    match what {
        Emit::C | Emit::Core => write!(out, "{header}")?,
        Emit::Rust => write!(out, "{module}")?,
        _ => {}
    }
    if !constants.is_empty() {
        write!(out, "\n{constants}")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write_text(description: &Description<'_>, out: &mut dyn Write) -> Result<(), Failure> {
    let context = &description.context;
    let bold = anstyle::Style::new().bold();
    let style = shared::evidence_style(context.evidence());
    writeln!(out, "{bold}{}{bold:#}", description.event)?;
    writeln!(out, "  id        {}", description.id)?;
    writeln!(out, "  home      {}", context.home().unwrap_or("-"))?;
    if description.sections.is_empty() {
        writeln!(
            out,
            "  SEC       none: no tracepoint program can be attached"
        )?;
    }
    for (index, section) in description.sections.iter().enumerate() {
        let label = if index == 0 { "SEC" } else { "" };
        writeln!(out, "  {label:9} {section}")?;
    }
    if let Some(raw) = &description.raw {
        writeln!(out, "  raw       {raw}")?;
    }
    match context.evidence() {
        Evidence::Format(_) => writeln!(out, "  context   no BTF type")?,
        Evidence::Syscall(_) if context.struct_name().is_none() => {
            writeln!(out, "  context   no struct with a name has this layout")?;
        }
        _ => writeln!(out, "  context   struct {}", shared::struct_cell(context))?,
    }
    writeln!(
        out,
        "            {style}{}{style:#}: {}",
        context.evidence().as_str(),
        description.reason
    )?;
    if let Some(class) = context.class() {
        writeln!(out, "  class     {class}")?;
    }
    if matches!(
        context.evidence(),
        Evidence::Inferred(_) | Evidence::Kernel(_)
    ) {
        writeln!(out, "  fitting   {}", context.candidates().join(", "))?;
    }
    for (index, sibling) in description.siblings.iter().enumerate() {
        let label = if index == 0 { "siblings" } else { "" };
        writeln!(out, "  {label:9} {sibling}")?;
    }
    writeln!(out)?;
    write_fields(description, out)?;
    writeln!(out)?;
    write_names(description, out)?;
    for note in notes(description) {
        writeln!(out, "  {note}")?;
    }
    Ok(())
}

fn write_fields(description: &Description<'_>, out: &mut dyn Write) -> Result<(), Failure> {
    const HEAD: [&str; 9] = [
        "FIELD", "TYPE", "RECORD", "CONTEXT", "SIZE", "SIGNED", "KIND", "PRINT", "BTF",
    ];
    let mut rows = vec![HEAD.map(str::to_owned)];
    let has_btf = description.context.home().is_some();
    rows.extend(description.fields.iter().map(|row| cells(row, has_btf)));
    let widths: [usize; 9] = std::array::from_fn(|column| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    });
    for row in &rows {
        let mut line = String::from(" ");
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            let is_number = matches!(HEAD[column], "RECORD" | "CONTEXT" | "SIZE");
            line += &match is_number {
                true => format!(" {cell:>width$} "),
                false => format!(" {cell:width$} "),
            };
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn cells(row: &FieldRow<'_>, has_btf: bool) -> [String; 9] {
    let field = row.field;
    let declaration = field.declaration();
    let c_type = match (declaration.text().ends_with(']'), declaration.array()) {
        (true, Some(length)) => format!("{}[{length}]", declaration.type_text()),
        _ => declaration.type_text().to_owned(),
    };
    let slot = row.context_slot.as_ref();
    [
        field.name().to_owned(),
        c_type,
        field.offset().to_string(),
        slot.map_or("-".to_owned(), |slot| slot.offset().to_string()),
        field.size().to_string(),
        match field.signed() {
            Some(true) => "yes",
            Some(false) => "no",
            None => "?",
        }
        .to_owned(),
        field.kind().to_string(),
        row.print.as_str().unwrap_or("-").to_owned(),
        match slot {
            Some(slot) if has_btf && slot.name() == field.name() => slot.c_type().to_owned(),
            Some(slot) if has_btf => format!("{}: {}", slot.name(), slot.c_type()),
            _ => "-".to_owned(),
        },
    ]
}

/// The names of flags and values.
fn write_names(description: &Description<'_>, out: &mut dyn Write) -> Result<(), Failure> {
    /// Where lines are broken.
    const WIDTH: usize = 96;
    for row in &description.fields {
        let mut line = format!("  {}:", row.field.name());
        let mut is_any = false;
        for named in row.print.names() {
            is_any = true;
            let value = match named.value {
                Some(value) => format!("{value:#x}"),
                None => "?".to_owned(),
            };
            let entry = format!(" {value}={}", named.name.escape_debug());
            if line.chars().count() + entry.chars().count() > WIDTH {
                writeln!(out, "{line}")?;
                line = "   ".to_owned();
            }
            line += &entry;
        }
        if is_any {
            writeln!(out, "{line}\n")?;
        }
    }
    Ok(())
}

/// What the table cannot say.
fn notes(description: &Description<'_>) -> Vec<String> {
    let mut notes = vec![
        "RECORD and CONTEXT are offsets in bytes. common_* fields are in the record only:"
            .to_owned(),
        "a program cannot read them through its context, which begins with a pointer of the kernel's."
            .to_owned(),
    ];
    for repair in description.repairs {
        notes.push(format!("The format file was put right: {repair}."));
    }
    let context = &description.context;
    if let Evidence::Format(_) = context.evidence()
        && description.category == "syscalls"
    {
        notes.push(
            "Without BTF nothing proves where a system call's context has its arguments; shown is where the record has them."
                .to_owned(),
        );
    }
    let own = description.fields.iter().filter(|row| !row.common);
    if own
        .clone()
        .any(|row| row.field.kind() == FieldKind::DataLoc && row.in_context)
    {
        notes.push(
            "A data_loc field is a u32: low 16 bits, where its bytes begin, from the start of the context; high 16, how many."
                .to_owned(),
        );
    }
    let missing: Vec<&str> = own
        .filter(|row| !row.in_context)
        .map(|row| row.field.name())
        .collect();
    match (missing.as_slice(), context.evidence()) {
        ([], _) => {}
        (missing, Evidence::Format(_)) => notes.push(format!(
            "Where the context has it, if it does, is not known: {}.",
            missing.join(", ")
        )),
        (missing, _) => notes.push(format!("In the record only: {}.", missing.join(", "))),
    }
    notes.extend(number_note(description));
    notes
}

/// The number of a system call is not always where the struct that has its
/// arguments right says it is.
fn number_note(description: &Description<'_>) -> Option<String> {
    let rows = description.fields.iter();
    let mut numbers = rows.filter(|row| row.field.name() == "__syscall_nr");
    let number = numbers.next()?.context_slot.as_ref()?;
    let name = description.context.struct_name()?;
    let layout = description.context.layout().ok()?;
    let named = layout.slot("nr").or_else(|| layout.slot("id"))?;
    let differs = (named.offset(), named.size()) != (number.offset(), number.size());
    differs.then(|| {
        format!(
            "{} of struct {name} ({} bytes at {}) is not the system call's number: read {} bytes at {}.",
            named.name(),
            named.size(),
            named.offset(),
            number.size(),
            number.offset(),
        )
    })
}
