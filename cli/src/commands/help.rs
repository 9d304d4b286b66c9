//! `help`: of a verb, or the whole tool for a language model.

use clap::{Args, CommandFactory};

use crate::arguments::CommandLine;
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::Failure;

/// The whole tool on one page.
const AGENT_PAGE: &str = include_str!("agent_page.txt");

/// Show the help of a verb; `help agent` teaches a language model the whole tool
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskyard help
  taskyard help files put
  taskyard help agent

Exit codes: 0 done, 2 there is no such verb")]
pub struct HelpArguments {
    /// A verb, or `agent`
    #[arg(value_name = "TOPIC")]
    pub topic: Vec<String>,
}

/// Prints it.
pub fn execute(arguments: &HelpArguments) -> Result<ExitCode, Failure> {
    if arguments.topic == ["agent"] {
        console::print(AGENT_PAGE)?;
        return Ok(ExitCode::Success);
    }
    console::print(&text_of(&arguments.topic)?)?;
    Ok(ExitCode::Success)
}

/// What `--help` prints for the verb to which these words lead.
pub fn text_of(path: &[String]) -> Result<String, Failure> {
    let mut command = CommandLine::command();
    let mut found = &command;
    for verb in path {
        found = found.find_subcommand(verb).ok_or_else(|| {
            Failure::Usage(format!(
                "there is no help on `{verb}`; `taskyard help` lists the verbs"
            ))
        })?;
    }
    let words = ["taskyard"]
        .into_iter()
        .chain(path.iter().map(String::as_str))
        .chain(["--help"]);
    match command.try_get_matches_from_mut(words) {
        Err(help) => Ok(help.render().to_string()),
        Ok(_) => Err(Failure::Own("the help has no text".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_tools_help_names_every_verb() {
        let help = text_of(&[]).expect("there is a help");
        let words: Vec<&str> = help
            .split(|letter: char| letter.is_whitespace() || letter == ',')
            .collect();
        for verb in CommandLine::command().get_subcommands() {
            let name = verb.get_name();
            assert!(words.contains(&name), "{name} is missing:\n{help}");
        }
    }

    #[test]
    fn the_page_for_agents_is_short_and_knows_every_verb() {
        // Four bytes to a token, about.
        assert!(AGENT_PAGE.len() <= 6_000, "{} bytes", AGENT_PAGE.len());
        for verb in CommandLine::command().get_subcommands() {
            assert!(
                AGENT_PAGE.contains(verb.get_name()),
                "{} is missing",
                verb.get_name()
            );
        }
    }
}
