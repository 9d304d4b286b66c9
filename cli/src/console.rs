//! Standard output for data, standard error for everything else.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::failure::Failure;

static IS_RAW: AtomicBool = AtomicBool::new(false);

/// Writes data to standard output, at once.
pub fn print(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes())
}

/// Writes data to standard output, at once.
pub fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    output
        .write_all(bytes)
        .and_then(|()| output.flush())
        .map_err(|error| Failure::of_output(&error))
}

/// Writes data that a task wrote to its standard error to ours.
pub fn print_error(text: &str) -> Result<(), Failure> {
    let mut errors = io::stderr().lock();
    errors
        .write_all(text.as_bytes())
        .map_err(|error| Failure::of_output(&error))
}

/// Tells a person something, on standard error. Nobody listening there is no failure.
pub fn note(text: &str) {
    let mut errors = io::stderr().lock();
    let _ = write!(errors, "taskyard: {text}{}", line_end());
}

/// Says whether the terminal is raw, so that a line feed alone does not lead to the beginning of a line.
pub fn set_raw(is_raw: bool) {
    IS_RAW.store(is_raw, Ordering::Relaxed);
}

/// What ends a line for a person.
pub fn line_end() -> &'static str {
    if IS_RAW.load(Ordering::Relaxed) {
        "\r\n"
    } else {
        "\n"
    }
}

/// Columns of the terminal that standard output is; none for a pipe or a file.
pub fn output_width() -> Option<u16> {
    let output = io::stdout();
    if !output.is_terminal() {
        return None;
    }
    rustix::termios::tcgetwinsize(&output)
        .ok()
        .map(|size| size.ws_col)
        .filter(|&columns| columns >= 20)
}

/// Whether standard output takes colour: a terminal, and neither NO_COLOR nor a dumb TERM.
pub fn has_colour() -> bool {
    let is_refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || env::var_os("TERM").is_some_and(|value| value == "dumb");
    !is_refused && io::stdout().is_terminal()
}

/// Text from elsewhere made safe for a terminal: control characters become visible.
pub fn clean(text: &str) -> String {
    text.chars()
        .map(|character| match character {
            '\n' | '\t' | '\r' => ' ',
            character if character.is_control() => '\u{fffd}',
            character => character,
        })
        .collect()
}
