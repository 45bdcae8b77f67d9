//! Descriptions as text.

use std::io::Write;

use tracepoints::Evidence;
use tracepoints::format::FieldKind;
use tracepoints::kernel::{EventProgram, ProgramForm};

use super::{AskedArgument, Description, FieldRow};
#[cfg(target_os = "linux")]
use crate::output::Screen;
use crate::output::{self, Failure};
#[cfg(target_os = "linux")]
use crate::sites;

pub(super) fn write(description: &Description<'_>, out: &mut dyn Write) -> Result<(), Failure> {
    let context = &description.context;
    let bold = anstyle::Style::new().bold();
    let style = output::evidence_style(context.evidence());
    writeln!(out, "{bold}{}{bold:#}", description.event)?;
    if let Some(id) = description.id {
        writeln!(out, "  id        {id}")?;
    }
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
    let asked = description.arguments.as_deref();
    write_programs(&description.programs, asked, out)?;
    match context.evidence() {
        Evidence::Format(_) => writeln!(out, "  context   no BTF type")?,
        Evidence::Syscall(_) if context.struct_name().is_none() => {
            writeln!(out, "  context   no struct with a name has this layout")?;
        }
        _ => writeln!(
            out,
            "  context   struct {}",
            output::struct_cell(context.of_struct())
        )?,
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
    #[cfg(target_os = "linux")]
    if let Some(places) = &description.places {
        writeln!(out, "  state     {}", sites::state(places.whole))?;
        sites::write_places(places.whole, &Screen::of_stdout(), out)?;
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

/// One line for each type of program: since which version, and what it gets. `asked` are the
/// arguments as the running kernel's verifier sees them.
pub(super) fn write_programs(
    programs: &[EventProgram],
    asked: Option<&[AskedArgument]>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    for (index, program) in programs.iter().enumerate() {
        let label = if index == 0 { "programs" } else { "" };
        let form = match program.form() {
            // Its function has a name of its own.
            ProgramForm::Fentry | ProgramForm::Fexit => program.section(),
            form => form.as_str(),
        };
        let (since, gets) = (program.since(), program.gets());
        write!(out, "  {label:9} {form:6}  since {since}: {gets}")?;
        match program.nullable() {
            [] => writeln!(out)?,
            names => writeln!(out, "; may be NULL: {}", names.join(", "))?,
        }
    }
    let asked = asked.unwrap_or_default().iter();
    let nullable = asked.filter(|one| one.null == "may_be_null");
    let nullable: Vec<&str> = nullable.map(|one| &*one.name).collect();
    if !nullable.is_empty() {
        let names = nullable.join(", ");
        writeln!(
            out,
            "            the verifier of this kernel says may be NULL: {names}"
        )?;
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

/// Writes the names of flags and values.
fn write_names(description: &Description<'_>, out: &mut dyn Write) -> Result<(), Failure> {
    /// The width at which lines are broken.
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

/// Returns remarks that do not fit into the table.
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
