//! Shell completions and man pages, generated from the arguments themselves.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;

use crate::capture::out;
use crate::output::{self, Failure};

/// Print a shell's completions for this command
///
/// For bash: tracepoints completions bash > ~/.local/share/bash-completion/completions/tracepoints
#[derive(Args)]
pub(crate) struct CompletionsArguments {
    /// The shell
    shell: Shell,
}

/// Write the man pages
#[derive(Args)]
pub(crate) struct ManArguments {
    /// Where to: tracepoints.1 and a page for each subcommand
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

pub(crate) fn completions(arguments: &CompletionsArguments) -> ExitCode {
    output::run(false, |out| {
        let mut command = crate::Cli::command();
        // `generate` panics if it cannot write.
        let mut text = Vec::new();
        clap_complete::generate(arguments.shell, &mut command, "tracepoints", &mut text);
        out.write_all(&text)?;
        Ok(ExitCode::SUCCESS)
    })
}

pub(crate) fn man(arguments: &ManArguments) -> ExitCode {
    output::run(false, |_| {
        // The version has no commit here, so that pages change only with the command's
        // arguments.
        let mut command = crate::Cli::command()
            .version(env!("CARGO_PKG_VERSION"))
            .disable_help_subcommand(true);
        command.build();
        write_pages(command, &arguments.dir)?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Writes the page of a command, and those of its subcommands.
fn write_pages(command: Command, directory: &Path) -> Result<(), Failure> {
    let subcommands = command.get_subcommands();
    for subcommand in subcommands.filter(|command| !command.is_hide_set()) {
        write_pages(subcommand.clone(), directory)?;
    }
    let man = clap_mangen::Man::new(command);
    let mut page = Vec::new();
    man.render(&mut page)?;
    out::replace(directory, &man.get_filename(), &page)
}
