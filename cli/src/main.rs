//! `tracepoints` lists a kernel's tracepoints, shows all that is known about them,
//! traces them, and decodes the kernel's traces. Each subcommand is a module.

#[cfg(target_os = "linux")]
mod attach;
mod audit;
#[cfg(target_os = "linux")]
mod bench;
mod by_btf;
mod capture;
mod catalog;
mod decode;
mod diff;
mod explore;
mod format;
mod generate;
mod kernel;
mod list;
mod output;
mod row;
mod select;
#[cfg(target_os = "linux")]
mod sites;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Know every Linux tracepoint: list them with the context struct their eBPF programs
/// get, show their fields, trace them, decode what was traced
#[derive(Parser)]
#[command(name = "tracepoints", version = env!("TRACEPOINTS_VERSION"))]
#[command(
    propagate_version = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Subcommand)]
enum Subcommands {
    List(list::Arguments),
    #[command(visible_alias = "show")]
    Format(format::Arguments),
    #[cfg(target_os = "linux")]
    Attach(Box<attach::Arguments>),
    #[cfg(target_os = "linux")]
    Bench(bench::Arguments),
    Decode(decode::Arguments),
    Audit(audit::Arguments),
    Diff(diff::Arguments),
    Explore(explore::Arguments),
    #[cfg(target_os = "linux")]
    Sites(sites::Arguments),
    Capture(capture::Arguments),
    Catalog(catalog::Arguments),
    Completions(generate::CompletionsArguments),
    #[command(hide = true)]
    Man(generate::ManArguments),
}

fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    {
        let child = attach::command::main_of_child().or_else(decode::instance::main_of_remover);
        if let Some(code) = child {
            return code;
        }
    }
    match Cli::parse().command {
        Subcommands::List(arguments) => list::main(&arguments),
        Subcommands::Format(arguments) => format::main(&arguments),
        #[cfg(target_os = "linux")]
        Subcommands::Attach(arguments) => attach::main(&arguments),
        #[cfg(target_os = "linux")]
        Subcommands::Bench(arguments) => bench::main(&arguments),
        Subcommands::Decode(arguments) => decode::main(&arguments),
        Subcommands::Audit(arguments) => audit::main(&arguments),
        Subcommands::Diff(arguments) => diff::main(&arguments),
        Subcommands::Explore(arguments) => explore::main(&arguments),
        #[cfg(target_os = "linux")]
        Subcommands::Sites(arguments) => sites::main(&arguments),
        Subcommands::Capture(arguments) => capture::main(&arguments),
        Subcommands::Catalog(arguments) => catalog::main(&arguments),
        Subcommands::Completions(arguments) => generate::completions(&arguments),
        Subcommands::Man(arguments) => generate::man(&arguments),
    }
}
