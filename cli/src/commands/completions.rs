//! `completions`: for shells.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::arguments::CommandLine;
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::Failure;

/// Print a completion script for a shell: bash, elvish, fish, powershell, zsh
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  source <(taskyard completions bash)
  taskyard completions zsh > ~/.zfunc/_taskyard
  taskyard completions fish > ~/.config/fish/completions/taskyard.fish

Exit codes: 0 done, 2 usage")]
pub struct CompletionsArguments {
    /// The shell
    #[arg(hide_possible_values = true)]
    pub shell: Shell,
}

/// Prints the script.
pub fn execute(arguments: &CompletionsArguments) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut CommandLine::command(),
        "taskyard",
        &mut script,
    );
    console::print_bytes(&script)?;
    Ok(ExitCode::Success)
}
