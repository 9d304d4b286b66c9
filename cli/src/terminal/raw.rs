//! The terminal's modes while its keys are another program's.

use std::io::{self, IsTerminal};
use std::sync::{Mutex, Once, PoisonError};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::console;
use crate::failure::Failure;

/// The modes before, for as long as they are changed. For the whole program, so that a panic finds them too.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);
static PANICS: Once = Once::new();

/// While this lives every key goes through as it is. Dropped, and at a panic, the terminal is as it was before.
#[derive(Debug)]
pub struct RawTerminal(());

impl RawTerminal {
    /// Changes the modes, if standard input is a terminal.
    pub fn enter() -> Result<Option<RawTerminal>, Failure> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Ok(None);
        }
        let failed = |errno| {
            Failure::Own(format!(
                "the modes of the terminal cannot be changed: {errno}"
            ))
        };
        let before = tcgetattr(&stdin).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        PANICS.call_once(|| {
            let told = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                restore();
                told(panic);
            }));
        });
        let terminal = RawTerminal(());
        tcsetattr(&stdin, OptionalActions::Now, &raw).map_err(failed)?;
        console::set_raw(true);
        Ok(Some(terminal))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(before) = before {
        // A terminal that is gone has no modes.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &before);
        console::set_raw(false);
    }
}
