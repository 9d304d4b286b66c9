//! A task's output on its way to this program's own standard output and standard error.

use std::io::{self, IsTerminal};

use taskyard_proto::v1::OutputStream;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::console;
use crate::failure::Failure;

/// Where a stream goes.
type Sink = Box<dyn AsyncWrite + Send + Unpin>;

/// Writes bytes as they are and at once, and notes on lines of their own between them.
pub struct OutputPrinter {
    stdout: Sink,
    stderr: Sink,
    /// Both streams end up on one screen.
    is_one_screen: bool,
    is_stdout_mid_line: bool,
    is_stderr_mid_line: bool,
}

impl OutputPrinter {
    /// To this program's own streams.
    pub fn new() -> OutputPrinter {
        OutputPrinter {
            is_one_screen: io::stdout().is_terminal() && io::stderr().is_terminal(),
            ..OutputPrinter::to(Box::new(tokio::io::stdout()), Box::new(tokio::io::stderr()))
        }
    }

    /// To two streams that are not one screen.
    pub fn to(stdout: Sink, stderr: Sink) -> OutputPrinter {
        OutputPrinter {
            stdout,
            stderr,
            is_one_screen: false,
            is_stdout_mid_line: false,
            is_stderr_mid_line: false,
        }
    }

    /// Writes bytes of a task's stream to ours of the same name. Fails where nobody reads standard output any more.
    pub async fn write(&mut self, stream: OutputStream, data: &[u8]) -> Result<(), Failure> {
        let Some(last) = data.last() else {
            return Ok(());
        };
        let is_mid_line = *last != b'\n';
        match stream {
            OutputStream::Stdout => {
                self.is_stdout_mid_line = is_mid_line;
                let written = self.stdout.write_all(data).await;
                written.map_err(|error| Failure::of_output(&error))?;
                self.stdout
                    .flush()
                    .await
                    .map_err(|error| Failure::of_output(&error))
            }
            OutputStream::Stderr => {
                self.is_stderr_mid_line = is_mid_line;
                // A closed standard error takes nothing away from the data on standard output.
                let _ = self.stderr.write_all(data).await;
                let _ = self.stderr.flush().await;
                Ok(())
            }
            OutputStream::Unspecified => Ok(()),
        }
    }

    /// Tells a person something without breaking into a line of the output.
    pub async fn note(&mut self, text: &str) {
        let is_mid_line =
            self.is_stderr_mid_line || (self.is_one_screen && self.is_stdout_mid_line);
        let end = console::line_end();
        let line = format!(
            "{}taskyard: {text}{end}",
            if is_mid_line { end } else { "" }
        );
        let _ = self.stderr.write_all(line.as_bytes()).await;
        let _ = self.stderr.flush().await;
        self.is_stderr_mid_line = false;
        if self.is_one_screen {
            self.is_stdout_mid_line = false;
        }
    }
}
