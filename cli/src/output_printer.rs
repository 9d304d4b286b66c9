//! A task's output on its way to this program's own standard output and standard error.

use std::io::{self, IsTerminal};

use prost_types::Timestamp;
use taskyard_proto::v1::OutputStream;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::console;
use crate::failure::Failure;
use crate::view::moment;

/// Most bytes of stamped lines that are put together before they are written.
const STAMPED_BYTES: usize = 64 << 10;

/// Where a stream goes.
type Sink = Box<dyn AsyncWrite + Send + Unpin>;

/// Writes bytes as they are and at once, and notes on lines of their own between them.
pub struct OutputPrinter {
    stdout: Sink,
    stderr: Sink,
    /// Both streams end up on one screen, or in one file or pipe.
    is_one_screen: bool,
    /// Each line begins with its time.
    is_stamped: bool,
    is_stdout_mid_line: bool,
    is_stderr_mid_line: bool,
}

impl OutputPrinter {
    /// To this program's own streams.
    pub fn new() -> OutputPrinter {
        OutputPrinter {
            is_one_screen: is_one_place(),
            ..OutputPrinter::to(Box::new(tokio::io::stdout()), Box::new(tokio::io::stderr()))
        }
    }

    /// To two streams that are not one screen.
    pub fn to(stdout: Sink, stderr: Sink) -> OutputPrinter {
        OutputPrinter {
            stdout,
            stderr,
            is_one_screen: false,
            is_stamped: false,
            is_stdout_mid_line: false,
            is_stderr_mid_line: false,
        }
    }

    /// The same, with the time of its first byte before each line.
    #[must_use]
    pub fn stamped(self, is_stamped: bool) -> OutputPrinter {
        OutputPrinter { is_stamped, ..self }
    }

    /// Writes bytes of a task's stream, captured at this time, to ours of the same name. Fails where nobody reads standard
    /// output any more.
    pub async fn write(
        &mut self,
        stream: OutputStream,
        data: &[u8],
        at: Option<&Timestamp>,
    ) -> Result<(), Failure> {
        if !self.is_stamped {
            return self.write_bytes(stream, data).await;
        }
        let stamp = at.map_or_else(|| "-".to_owned(), moment::microseconds);
        let is_split_by_other = self.is_one_screen
            && match stream {
                OutputStream::Stdout => self.is_stderr_mid_line,
                OutputStream::Stderr => self.is_stdout_mid_line,
                OutputStream::Unspecified => false,
            };
        let mut is_mid_line = match stream {
            OutputStream::Stdout => self.is_stdout_mid_line,
            OutputStream::Stderr | OutputStream::Unspecified => self.is_stderr_mid_line,
        };
        let mut text = Vec::new();
        if is_split_by_other && !data.is_empty() {
            // On a screen the other's line would run on into this one; it goes on below, with a stamp of its own.
            text.push(b'\n');
            self.is_stdout_mid_line = false;
            self.is_stderr_mid_line = false;
            is_mid_line = false;
        }
        for line in data.split_inclusive(|byte| *byte == b'\n') {
            if !is_mid_line {
                text.extend_from_slice(stamp.as_bytes());
                text.push(b' ');
            }
            text.extend_from_slice(line);
            is_mid_line = line.last() != Some(&b'\n');
            if text.len() >= STAMPED_BYTES {
                self.write_bytes(stream, &std::mem::take(&mut text)).await?;
            }
        }
        self.write_bytes(stream, &text).await
    }

    async fn write_bytes(&mut self, stream: OutputStream, data: &[u8]) -> Result<(), Failure> {
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

    /// Says that what comes next of the stream does not follow what was written: in stamped mode it begins a line of its own.
    pub async fn break_line(&mut self, stream: OutputStream) -> Result<(), Failure> {
        let is_mid_line = match stream {
            OutputStream::Stdout => self.is_stdout_mid_line,
            OutputStream::Stderr => self.is_stderr_mid_line,
            OutputStream::Unspecified => false,
        };
        if !self.is_stamped || !is_mid_line {
            return Ok(());
        }
        self.write_bytes(stream, b"\n").await
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

/// Whether what is written to standard output and to standard error lands among each other.
fn is_one_place() -> bool {
    if io::stdout().is_terminal() && io::stderr().is_terminal() {
        return true;
    }
    let place = |found: rustix::fs::Stat| (found.st_dev, found.st_ino);
    let stdout = rustix::fs::fstat(io::stdout()).map(place);
    let stderr = rustix::fs::fstat(io::stderr()).map(place);
    stdout.is_ok() && stdout == stderr
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    /// What reaches the two streams, on one screen or not.
    async fn printed(
        is_one_screen: bool,
        pieces: &[(OutputStream, &str, i64)],
    ) -> (String, String) {
        let (stdout, mut stdout_reader) = tokio::io::duplex(1 << 16);
        let (stderr, mut stderr_reader) = tokio::io::duplex(1 << 16);
        let printer = OutputPrinter::to(Box::new(stdout), Box::new(stderr)).stamped(true);
        let mut printer = OutputPrinter {
            is_one_screen,
            ..printer
        };
        for (stream, data, seconds) in pieces {
            let at = Timestamp {
                seconds: *seconds,
                nanos: 0,
            };
            let written = printer.write(*stream, data.as_bytes(), Some(&at)).await;
            written.expect("somebody reads");
        }
        drop(printer);
        let (mut output, mut errors) = (String::new(), String::new());
        let read = stdout_reader.read_to_string(&mut output).await;
        read.expect("it is text");
        let read = stderr_reader.read_to_string(&mut errors).await;
        read.expect("it is text");
        (output, errors)
    }

    #[tokio::test]
    async fn each_line_has_the_time_of_its_first_byte() {
        use OutputStream::{Stderr, Stdout};
        let pieces = [
            (Stdout, "a\nb", 1),
            (Stderr, "e\n", 2),
            (Stdout, "c\n\n", 3),
        ];
        let (output, errors) = printed(false, &pieces).await;
        let stamp = |second: u8| format!("1970-01-01T00:00:0{second}.000000Z");
        let (one, two, three) = (stamp(1), stamp(2), stamp(3));
        assert_eq!(output, format!("{one} a\n{one} bc\n{three} \n"));
        assert_eq!(errors, format!("{two} e\n"));
        // Where both end up on one screen, a line that another one broke into goes on with a stamp of its own.
        let (output, errors) = printed(true, &pieces).await;
        assert_eq!(output, format!("{one} a\n{one} b{three} c\n{three} \n"));
        assert_eq!(errors, format!("\n{two} e\n"));
    }
    #[tokio::test]
    async fn what_follows_a_gap_begins_a_line_where_lines_are_stamped() {
        for (is_stamped, expected) in [
            (false, "headtail\n"),
            (
                true,
                "1970-01-01T00:00:01.000000Z head\n1970-01-01T00:00:01.000000Z tail\n",
            ),
        ] {
            let (stdout, mut reader) = tokio::io::duplex(1 << 16);
            let printer = OutputPrinter::to(Box::new(stdout), Box::new(tokio::io::sink()));
            let mut printer = printer.stamped(is_stamped);
            let at = Timestamp {
                seconds: 1,
                nanos: 0,
            };
            for (data, is_before_gap) in [("head", true), ("tail\n", false)] {
                let written = printer
                    .write(OutputStream::Stdout, data.as_bytes(), Some(&at))
                    .await;
                written.expect("somebody reads");
                if is_before_gap {
                    let broken = printer.break_line(OutputStream::Stdout).await;
                    broken.expect("somebody reads");
                }
            }
            drop(printer);
            let mut output = String::new();
            let read = reader.read_to_string(&mut output).await;
            read.expect("it is text");
            assert_eq!(output, expected);
        }
    }
}
