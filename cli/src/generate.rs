//! Shell completions and man pages, generated from the arguments themselves.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

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
        let command = crate::Cli::command()
            .version(env!("CARGO_PKG_VERSION"))
            .disable_help_subcommand(true);
        clap_mangen::generate_to(command, &arguments.dir)
            .map_err(|error| Failure::Other(format!("{}: {error}", arguments.dir.display())))?;
        Ok(ExitCode::SUCCESS)
    })
}
