//! The wish of a person, or of the system, that the program stops.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

/// Ctrl-C, SIGTERM and, where a lost terminal must not leave things behind, SIGHUP.
#[derive(Debug)]
pub struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
}

impl Interrupts {
    /// From now on the signals no longer end the program by themselves.
    pub fn listen(with_hangup: bool) -> Result<Interrupts, Failure> {
        let open = |kind| {
            signal(kind)
                .map_err(|error| Failure::Own(format!("cannot listen for signals: {error}")))
        };
        Ok(Interrupts {
            interrupt: open(SignalKind::interrupt())?,
            terminate: open(SignalKind::terminate())?,
            hangup: if with_hangup {
                Some(open(SignalKind::hangup())?)
            } else {
                None
            },
        })
    }

    /// Returns at the next signal. Nothing is lost if the future is dropped.
    pub async fn next(&mut self) {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = hangup => {}
        }
    }
}
