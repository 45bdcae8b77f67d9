//! Shows the places of tracepoints in a kernel's code and, for the running kernel,
//! whether they are patched and who listens.

use std::io::Write;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use clap::Args;
use tracepoints::kernel::Events;
use tracepoints::sites::{
    BpfAttachment, EventSites, HoldingProcess, Listener, PatchSite, PatchState, Sites, SitesError,
};
use tracepoints::{EventPattern, Kernel};

use crate::kernel::KernelChoice;
use crate::output::{self, Failure, JsonRows, Screen, note, plural, with_causes};
use crate::select::select;

/// Show where tracepoints are in a kernel's code; of the running one, whether they are on
/// and who listens
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    kernel: KernelChoice,
    /// Show only those somebody listens to
    #[arg(long, short)]
    listened: bool,
    /// Print one JSON object a line
    #[arg(long, short)]
    json: bool,
    /// Which events: sched:*, *:*exit*, …; or tracepoints without an event, pelt_*; all
    /// without one
    #[arg(value_name = "PATTERN")]
    patterns: Vec<EventPattern>,
}

const EXAMPLES: &str = "\
Examples:
  tracepoints sites net:netif_rx
  tracepoints sites --root /boot/vmlinuz net:netif_rx
  tracepoints sites --listened
  tracepoints sites --json --listened | jq -r '.event, .listeners[]'";

pub(crate) fn main(arguments: &Arguments) -> ExitCode {
    output::run(!arguments.json, |out| show(arguments, out))
}

fn show(arguments: &Arguments, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let chosen = arguments.kernel.open(|kernel| kernel)?;
    let kernel = chosen.kernel;
    let (events, bare) = named(kernel, &arguments.patterns)?;
    let bare: Vec<&str> = bare.iter().map(String::as_str).collect();
    let sites = kernel.sites(events.names(), &bare)?;
    let shown = sites.events().iter();
    let shown: Vec<&EventSites> = shown
        .filter(|event| !arguments.listened || !event.listeners().is_empty())
        .collect();
    if let Some(mut json) = JsonRows::where_wanted(arguments.json, &chosen.identity)? {
        for event in &shown {
            json.write(event, out)?;
        }
    } else {
        let screen = Screen::of_stdout();
        for (index, event) in shown.iter().enumerate() {
            if index > 0 {
                writeln!(out)?;
            }
            write_event(event, &screen, out)?;
        }
    }
    out.flush()?;
    note!("{}", summary(&sites));
    for part in sites.unknown() {
        note!("not known: {part}");
    }
    Ok(ExitCode::SUCCESS)
}

/// The events the patterns match, and the tracepoints without an event.
fn named(kernel: &Kernel, patterns: &[EventPattern]) -> Result<(Events, Vec<String>), Failure> {
    let mut bare: Vec<String> = kernel
        .bare_tracepoints()?
        .iter()
        .map(|raw| raw.name().to_owned())
        .collect();
    if patterns.is_empty() {
        return Ok((select(kernel, patterns)?, bare));
    }
    bare.retain(|name| patterns.iter().any(|pattern| pattern.matches_bare(name)));
    let listed = kernel.events()?;
    // A pattern may match only tracepoints without an event.
    let is_of_events = |pattern: &&EventPattern| {
        !bare.iter().any(|name| pattern.matches_bare(name))
            || listed.names().iter().any(|name| pattern.matches(name))
    };
    let of_events: Vec<EventPattern> = patterns.iter().filter(is_of_events).cloned().collect();
    let events = match of_events.is_empty() {
        true => Events::default(),
        false => select(kernel, &of_events)?,
    };
    Ok((events, bare))
}

fn write_event(event: &EventSites, screen: &Screen, out: &mut dyn Write) -> Result<(), Failure> {
    let name = match (event.event(), event.tracepoint()) {
        (Some(event), _) => event.as_str(),
        (None, Some(tracepoint)) => &tracepoint.name,
        (None, None) => "",
    };
    writeln!(out, "{name}  {}", state(event))?;
    write_places(event, screen, out)
}

/// `off, by tracepoint sys_enter`, `on [xfs]`: the state of an event's tracepoint.
pub(crate) fn state(event: &EventSites) -> String {
    let on = AnsiColor::Green.on_default();
    let Some(tracepoint) = event.tracepoint() else {
        return "no tracepoint".to_owned();
    };
    let mut state = match tracepoint.enabled {
        0 => "off".to_owned(),
        _ => format!("{on}on{on:#}"),
    };
    match event.event().map(|event| event.event()) {
        Some(own) if own == tracepoint.name => {}
        Some(_) => state += &format!(", by tracepoint {}", tracepoint.name),
        None => state += ", a tracepoint without an event",
    }
    if let Some(module) = &tracepoint.module {
        state += &format!(" [{module}]");
    }
    state
}

/// Writes the sites, the static call, the listeners, and what is not known of them.
pub(crate) fn write_places(
    event: &EventSites,
    screen: &Screen,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let Some(tracepoint) = event.tracepoint() else {
        return write_listeners(event, screen, out);
    };
    let on = AnsiColor::Green.on_default();
    let faint = Style::new().dimmed();
    let sites = tracepoint.sites.as_deref().unwrap_or_default();
    let place = |site: &PatchSite| match &site.location {
        Some(location) => location.to_string(),
        None => "?".to_owned(),
    };
    let width = sites.iter().map(|site| place(site).len()).max();
    let width = width.unwrap_or(0);
    for site in sites {
        let bytes: Vec<String> = site
            .bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let bytes = bytes.join(" ");
        write!(
            out,
            "  site      {:width$}  {faint}{:#x}{faint:#}  {bytes:14}  ",
            place(site),
            site.address
        )?;
        match site.state {
            PatchState::Jump => {
                let target = match &site.target_location {
                    Some(location) => location.to_string(),
                    None => format!("{:#x}", site.target),
                };
                writeln!(out, "{on}jump{on:#} to {target}")?;
            }
            state => writeln!(out, "{}", state.as_str())?,
        }
    }
    if let Some(call) = &tracepoint.static_call {
        writeln!(out, "  calls     {}", call.function)?;
    }
    write_listeners(event, screen, out)
}

fn write_listeners(
    event: &EventSites,
    screen: &Screen,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    for listener in event.listeners() {
        writeln!(out, "  listener  {}", screen.show(&listener_line(listener)))?;
    }
    for part in event.unknown() {
        writeln!(out, "  not known {part}")?;
    }
    Ok(())
}

fn listener_line(listener: &Listener) -> String {
    match listener {
        Listener::Ftrace {
            instance,
            is_filtered,
            is_soft_disabled,
        } => {
            let instance = match instance {
                Some(name) => format!("ftrace, instance {name}"),
                None => "ftrace".to_owned(),
            };
            let filtered = if *is_filtered { ", filtered" } else { "" };
            let disabled = match is_soft_disabled {
                true => ", for triggers alone",
                false => "",
            };
            format!("{instance}{filtered}{disabled}")
        }
        Listener::Perf {
            events,
            inherited,
            holders,
        } => {
            let inherited = match inherited {
                0 => String::new(),
                count => format!(" and {count} inherited"),
            };
            let events = plural(*events, "event", "s");
            format!("perf, {events}{inherited}{}", held(holders))
        }
        Listener::Bpf {
            program,
            attachment,
            link,
            holders,
        } => {
            let kind = match attachment {
                BpfAttachment::RawTracepoint => "raw tracepoint",
                _ => "tracepoint",
            };
            let link = link.map_or(String::new(), |link| format!(", link {link}"));
            format!(
                "bpf {kind}, program {} {} tag {}{link}{}",
                program.id,
                program.name,
                program.tag,
                held(holders)
            )
        }
        Listener::Function { function, module } => {
            let function = function.as_deref().unwrap_or("a function without a symbol");
            match module {
                Some(module) => format!("{function} of module {module}"),
                None => format!("{function} of the kernel"),
            }
        }
        _ => "unknown".to_owned(),
    }
}

/// `, held by perf (123) and bash (45)`.
fn held(holders: &[HoldingProcess]) -> String {
    let each: Vec<String> = holders
        .iter()
        .map(|holder| format!("{} ({})", holder.comm, holder.pid))
        .collect();
    match each.as_slice() {
        [] => ", held by no process".to_owned(),
        each => format!(", held by {}", each.join(", ")),
    }
}

/// `2305 events, 3 of them on: 4 listeners`.
fn summary(sites: &Sites) -> String {
    let events = sites.events();
    let is_on = |event: &&EventSites| !event.listeners().is_empty();
    let listeners: usize = events.iter().map(|event| event.listeners().len()).sum();
    let bare = events
        .iter()
        .filter(|event| event.event().is_none())
        .count();
    let and_bare = match bare {
        0 => String::new(),
        count => format!(" and {}", plural(count as u64, "tracepoint", "s")),
    };
    format!(
        "{}{and_bare}: {} listened to, {}",
        plural((events.len() - bare) as u64, "event", "s"),
        events.iter().filter(is_on).count(),
        plural(listeners as u64, "listener", "s")
    )
}

impl From<SitesError> for Failure {
    fn from(error: SitesError) -> Self {
        Self::Other(with_causes(&error))
    }
}
