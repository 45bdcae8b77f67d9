//! Shows all that is known about a tracepoint, for the author of a probe.

mod emit;
#[cfg(target_os = "linux")]
mod places;
pub(crate) mod raw;
mod text;

use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use tracepoints::format::print::FieldPrint;
use tracepoints::format::{Field, Repair};
use tracepoints::kernel::EventProgram;
use tracepoints::{
    Context, Error, EventName, EventPattern, Kernel, Tracepoint, context::RawTracepoint,
    layout::Slot,
};

use crate::by_btf;
use crate::kernel::{KernelChoices, Opened};
use crate::output::{self, Failure, JsonRows};
use crate::select::select;

/// Show all that is known of a tracepoint: its context struct, sections and fields
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    kernel: KernelChoices,
    /// Print one JSON object a line
    #[arg(long, short)]
    json: bool,
    /// Show the arguments raw_tp and tp_btf programs get
    #[arg(long, conflicts_with = "emit")]
    raw: bool,
    /// Show also where the event is in the kernel's code; of the running kernel, whether it
    /// is on and who listens
    #[cfg(target_os = "linux")]
    #[arg(long, conflicts_with_all = ["emit", "raw"])]
    sites: bool,
    /// Print source text to paste instead
    #[arg(long, short, value_name = "WHAT", conflicts_with = "json")]
    emit: Option<emit::Emit>,
    /// With --emit c or core: the headers that the text is compiled together with
    #[arg(long, value_name = "HEADERS", requires = "emit")]
    beside: Option<emit::Beside>,
    /// Which events: sched:sched_switch, block:*, …
    #[arg(required = true, value_name = "EVENT|PATTERN")]
    patterns: Vec<EventPattern>,
}

const EXAMPLES: &str = "\
Examples:
  tracepoints format sched:sched_switch
  tracepoints format --demo --emit c sched:sched_process_exec
  tracepoints format --root kernels/6.1 --root kernels/6.18 --emit core 'sched:*'
  tracepoints format --raw sched_switch
  tracepoints format --sites --root /boot/vmlinuz net:netif_rx
  tracepoints show --json 'block:*' | jq '.fields[].name'";

/// All that is known about one event.
#[derive(Serialize)]
pub(crate) struct Description<'a> {
    event: &'a EventName,
    category: &'a str,
    name: &'a str,
    /// `None` if the kernel was not booted.
    id: Option<u32>,
    section: Option<String>,
    sections: Vec<String>,
    context: Context,
    type_id: Option<u32>,
    reason: String,
    raw: Option<RawTracepoint>,
    programs: Vec<EventProgram>,
    /// The raw tracepoint's arguments, each as the running kernel's verifier sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments: Option<Vec<AskedArgument>>,
    siblings: Vec<EventName>,
    fields: Vec<FieldRow<'a>>,
    print_fmt: &'a str,
    #[serde(skip_serializing_if = "<[Repair]>::is_empty")]
    repairs: &'a [Repair],
    /// With `--sites`.
    #[cfg(target_os = "linux")]
    #[serde(flatten)]
    places: Option<places::PlacesRow<'a>>,
}

/// An argument of a raw tracepoint: its name, and `never`, `may_be_null` or `number`.
#[derive(Serialize)]
struct AskedArgument {
    name: String,
    null: String,
}

/// A field of the record, and its place in the context.
#[derive(Serialize)]
struct FieldRow<'a> {
    #[serde(flatten)]
    field: &'a Field,
    common: bool,
    in_record: bool,
    in_context: bool,
    context_slot: Option<Slot>,
    /// Its names and base, by the print fmt.
    print: FieldPrint,
}

impl<'a> Description<'a> {
    /// `asks` says whether the running kernel's verifier is asked about arguments.
    pub(crate) fn of(tracepoint: &'a Tracepoint, asks: bool) -> Result<Self, Error> {
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
            // If it cannot be parsed, the text itself is still shown.
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
        let raw = tracepoint.raw()?;
        Ok(Self {
            event: name,
            category: name.category(),
            name: name.event(),
            id: tracepoint.id(),
            section: sections.first().cloned(),
            sections,
            type_id: context.type_id(),
            programs: tracepoint.programs()?,
            arguments: match &raw {
                Some(raw) if asks => asked(tracepoint.kernel(), raw),
                _ => None,
            },
            raw,
            reason: context.evidence().to_string(),
            siblings: tracepoint.siblings()?,
            fields: common.chain(own).collect(),
            print_fmt: format.print_fmt(),
            repairs: format.repairs(),
            #[cfg(target_os = "linux")]
            places: None,
            context,
        })
    }
}

/// Asks the running kernel's verifier; `None` where that cannot be done.
#[cfg(target_os = "linux")]
fn asked(kernel: &Kernel, raw: &RawTracepoint) -> Option<Vec<AskedArgument>> {
    use tracepoints::probe::{ArgumentNullness, nullable_arguments};

    let asked = nullable_arguments(kernel, raw.name()).ok()??;
    let argument = |(name, nullness)| AskedArgument {
        name,
        null: match nullness {
            ArgumentNullness::Never => "never",
            ArgumentNullness::MayBeNull => "may_be_null",
            _ => "number",
        }
        .to_owned(),
    };
    Some(asked.into_iter().map(argument).collect())
}

#[cfg(not(target_os = "linux"))]
fn asked(_: &Kernel, _: &RawTracepoint) -> Option<Vec<AskedArgument>> {
    None
}

pub(crate) fn main(arguments: &Arguments) -> ExitCode {
    output::run(!arguments.json, |out| format(arguments, out))
}

fn format(arguments: &Arguments, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    if arguments.kernel.root.len() > 1 && matches!(arguments.emit, Some(emit::Emit::Core)) {
        return emit::write_for_all(arguments, out);
    }
    let chosen = match arguments.kernel.only()?.open_or_btf(arguments.raw)? {
        Opened::Whole(chosen) => chosen,
        Opened::Btf(kernel, identity) => {
            let patterns = &arguments.patterns;
            return by_btf::format(&kernel, &identity, patterns, arguments.json, out);
        }
    };
    let kernel = chosen.kernel;
    let mut json = JsonRows::where_wanted(arguments.json, &chosen.identity)?;
    if arguments.raw {
        return raw::write_all(kernel, &arguments.patterns, json.as_mut(), out);
    }
    if let Some(emit) = arguments.emit {
        let names = select(kernel, &arguments.patterns)?;
        return emit::write(&chosen, &names, emit, arguments, out);
    }
    let (names, bare) = raw::select_with_bare(kernel, &arguments.patterns)?;
    let mut code = ExitCode::SUCCESS;
    let mut is_first = true;
    // Some programs are loaded to ask, which takes milliseconds for each event.
    let asks = names.names().len() == 1 && kernel.is_live();
    #[cfg(target_os = "linux")]
    let sites = places::read(arguments.sites, kernel, &names)?;
    #[cfg_attr(not(target_os = "linux"), expect(unused_variables))]
    for (index, name) in names.names().iter().enumerate() {
        let described = kernel.tracepoint(name).and_then(|tracepoint| {
            let description = Description {
                #[cfg(target_os = "linux")]
                places: places::row(sites.as_ref(), index),
                ..Description::of(&tracepoint, asks)?
            };
            Ok(match &mut json {
                Some(json) => json.write(&description, out),
                None => write_text(&description, &mut is_first, out),
            })
        });
        match described {
            Ok(written) => written?,
            Err(error) => output::step_over(error, &mut code)?,
        }
    }
    if !bare.is_empty() {
        if json.is_none() && !is_first {
            writeln!(out)?;
        }
        raw::write_some(kernel, &bare, json.as_mut(), out)?;
    }
    Ok(code)
}

fn write_text(
    description: &Description<'_>,
    is_first: &mut bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    if !std::mem::take(is_first) {
        writeln!(out)?;
    }
    text::write(description, out)
}
