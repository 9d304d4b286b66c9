//! Bringing a run its live input: fetched part by part, each once the one before was taken.

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use crate::lease::Lease;
use crate::link::interaction::Interaction;
use crate::process::INPUT_BYTES_MAX;

/// A piece that the process can take at once.
#[derive(Debug)]
pub struct InputPiece {
    pub data: Bytes,
    /// And nothing more.
    pub ends: bool,
}

/// Where pieces come out, and where it is told how many bytes were taken.
#[derive(Debug)]
pub struct InputEnd {
    pub pieces: mpsc::Receiver<InputPiece>,
    pub taken: watch::Sender<u64>,
}

/// Where pieces are put in.
#[derive(Debug)]
pub struct InputFeed {
    pieces: mpsc::Sender<InputPiece>,
    taken: watch::Receiver<u64>,
}

/// Both ends of a run's input.
pub fn live_input() -> (InputFeed, InputEnd) {
    // One piece at a time is under way.
    let (sender, pieces) = mpsc::channel(1);
    let taken = watch::Sender::new(0);
    let feed = InputFeed {
        pieces: sender,
        taken: taken.subscribe(),
    };
    (feed, InputEnd { pieces, taken })
}

impl InputFeed {
    /// Feeds until the end of the input, or of the process. What was taken is acknowledged by asking for what follows.
    pub async fn run(mut self, interaction: &Interaction, lease: &Lease, run: i32) {
        let mut offset: u64 = 0;
        loop {
            let part = match interaction.read_input(lease, run, offset, true).await {
                Ok(part) => part,
                Err(no_more) => {
                    tracing::debug!(lease = %lease, reason = %no_more, "a live input ends early");
                    return;
                }
            };
            let mut data = part.data;
            loop {
                let piece = data.split_to(data.len().min(INPUT_BYTES_MAX));
                let ends = part.ends && data.is_empty();
                if piece.is_empty() && !ends {
                    break;
                }
                offset += piece.len() as u64;
                let piece = InputPiece { data: piece, ends };
                if self.pieces.send(piece).await.is_err()
                    || self.taken.wait_for(|taken| *taken >= offset).await.is_err()
                {
                    return;
                }
                if ends {
                    // Nothing follows; this only says that the last bytes were taken.
                    let _ = interaction.read_input(lease, run, offset, false).await;
                    return;
                }
            }
        }
    }
}
