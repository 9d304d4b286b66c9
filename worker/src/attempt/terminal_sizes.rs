//! Bringing a run the size of its terminal: the newest one counts.

use tokio::sync::watch;

use crate::lease::{Lease, TerminalSize};
use crate::link::interaction::Interaction;

/// Where sizes are put in; whoever gives them to the process looks at the newest one.
#[derive(Debug)]
pub struct SizeFeed {
    newest: watch::Sender<Option<TerminalSize>>,
}

/// Both ends of what a run is told of its terminal.
pub fn terminal_sizes() -> (SizeFeed, watch::Receiver<Option<TerminalSize>>) {
    let (newest, sizes) = watch::channel(None);
    (SizeFeed { newest }, sizes)
}

impl SizeFeed {
    /// Feeds until the end of the process, beginning with what is newer than the size with the number `after`.
    pub async fn run(self, interaction: &Interaction, lease: &Lease, run: i32, after: i64) {
        let mut after = after;
        loop {
            match interaction
                .read_terminal_size(lease, run, after, true)
                .await
            {
                Ok(Some((number, size))) => {
                    after = number;
                    self.newest.send_replace(Some(size));
                }
                Ok(None) => {}
                Err(no_more) => {
                    tracing::debug!(lease = %lease, reason = %no_more, "a terminal keeps its size");
                    return;
                }
            }
        }
    }
}
