//! What is typed here, on its way to a task.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

use crate::terminal::escape::Escape;

/// Keys that wait for a task that takes none; somebody would have to paste a lot. Beyond it nothing is read, not even the
/// keys that leave.
const WAITING_BYTES_MAX: usize = 1024 * 1024;
const READ_BYTES: usize = 4096;

/// Reads standard input from now on. What is the task's comes out of the stream, which ends as standard input does; that
/// the user leaves is told to `leaving`.
pub fn read_keys(leaving: mpsc::Sender<()>) -> DuplexStream {
    let (ours, keys) = tokio::io::duplex(WAITING_BYTES_MAX);
    tokio::spawn(forward(ours, leaving));
    keys
}

async fn forward(mut stream: DuplexStream, leaving: mpsc::Sender<()>) {
    let mut stdin = tokio::io::stdin();
    let mut escape = Escape::new();
    let mut typed = [0; READ_BYTES];
    loop {
        let length = match stdin.read(&mut typed).await {
            Ok(0) | Err(_) => return,
            Ok(length) => length,
        };
        let mut keys = Vec::with_capacity(length);
        let is_left = escape.push(&typed[..length], &mut keys);
        if is_left {
            // Whoever is told ends the program.
            let _ = leaving.send(()).await;
        }
        if stream.write_all(&keys).await.is_err() {
            return;
        }
        if is_left {
            // That the user leaves is no end of the input.
            leaving.closed().await;
            return;
        }
    }
}
