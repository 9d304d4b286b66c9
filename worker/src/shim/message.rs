//! What worker and shim say to each other: JSON messages, each after its length in four little-endian bytes.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::boot_time::BootTime;
use crate::lease::TerminalSize;
use crate::process::{ExitStatus, Kept, ProcessEnd, Signal};

/// The largest message but the launch, in bytes, in either direction.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 * 1024;

const LENGTH_BYTES: usize = 4;

/// From the worker, any number of times after the launch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Command {
    Extend {
        deadline: BootTime,
    },
    Terminate {
        signal: Signal,
        grace_ms: u64,
    },
    Kill,
    /// From now on the process outlives the worker, if it was launched so; and what is to be kept with it.
    Keep(Kept),
    /// To the root's process group, or to the root alone.
    Signal {
        signal: Signal,
        root_only: bool,
    },
    /// Live input; `data` in hexadecimal digits.
    Input {
        data: String,
        ends: bool,
    },
    /// The size of the terminal, if there is one.
    Resize(TerminalSize),
}

/// From the worker's next boot, on a connection of its own: instead of a launch.
#[derive(Serialize, Deserialize)]
pub(crate) struct AttachRequest {
    pub token: String,
}

/// What the next boot is told first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attached {
    pub pid: i32,
    pub stdout_total: u64,
    pub stderr_total: u64,
    /// How the root ended, if it is over.
    pub exit: Option<ExitStatus>,
    pub exited_at: Option<BootTime>,
    pub kept: Kept,
}

/// From the shim: `StartFailed` alone, or `Started`, `Output`, `InputTaken` and `Exited` in order of events, and `Ended`
/// last; `Attached` instead of `Started` to a boot that takes over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    StartFailed(StartFailure),
    Started {
        pid: i32,
    },
    Output {
        stdout_total: u64,
        stderr_total: u64,
    },
    InputTaken {
        total: u64,
    },
    Exited(ExitStatus),
    Ended(ProcessEnd),
    Attached(Attached),
}

/// Why nothing was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StartFailure {
    pub step: StartStep,
    pub errno: i32,
    /// Which one, where a step is made for several.
    pub index: u8,
}

impl StartFailure {
    pub(crate) fn new(step: StartStep, errno: i32) -> StartFailure {
        StartFailure {
            step,
            errno,
            index: 0,
        }
    }
}

/// Where on the way to the program it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StartStep {
    /// The deadline passed before the program was executed.
    Deadline,
    StdoutSpool,
    StderrSpool,
    Stdin,
    Descriptors,
    /// There is none to be had, or it cannot be made the root's.
    Terminal,
    Fork,
    Session,
    /// The cgroup does not take it.
    Group,
    Nice,
    /// `index` is that of the limit.
    Rlimit,
    Identity,
    WorkingDirectory,
    /// The confinement cannot be prepared or put on.
    Isolation,
    /// The program exists, but what its `#!` line or its ELF header names does not.
    Interpreter,
    Execute,
}

impl StartStep {
    pub(crate) const ALL: [StartStep; 16] = [
        StartStep::Deadline,
        StartStep::StdoutSpool,
        StartStep::StderrSpool,
        StartStep::Stdin,
        StartStep::Descriptors,
        StartStep::Terminal,
        StartStep::Fork,
        StartStep::Session,
        StartStep::Group,
        StartStep::Nice,
        StartStep::Rlimit,
        StartStep::Identity,
        StartStep::WorkingDirectory,
        StartStep::Isolation,
        StartStep::Interpreter,
        StartStep::Execute,
    ];
}

/// Bytes as hexadecimal digits.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| {
        let digit = |half: u8| char::from(DIGITS[usize::from(half & 15)]);
        [digit(byte >> 4), digit(*byte)]
    });
    digits.collect()
}

/// The bytes of hexadecimal digits; nothing where they are none.
pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs
        .iter()
        .map(|[high, low]| u8::try_from(digit(*high)? * 16 + digit(*low)?).ok());
    bytes
        .collect::<Option<Vec<u8>>>()
        .filter(|_| rest.is_empty())
}

/// One message with its length in front.
pub(crate) fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>, serde_json::Error> {
    let mut frame = vec![0; LENGTH_BYTES];
    serde_json::to_writer(&mut frame, message)?;
    let length = u32::try_from(frame.len() - LENGTH_BYTES).map_err(serde::ser::Error::custom)?;
    frame[..LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
    Ok(frame)
}

/// Bytes that arrived and are not yet a whole message.
#[derive(Debug)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    message_bytes_max: usize,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("a message of {0} bytes is too long")]
    TooLong(usize),
    #[error("a message is not understood")]
    Json(#[source] serde_json::Error),
}

impl Inbox {
    pub(crate) fn new(message_bytes_max: usize) -> Inbox {
        Inbox {
            bytes: Vec::new(),
            message_bytes_max,
        }
    }

    /// Changes the bound for the messages that follow.
    pub(crate) fn limit(&mut self, message_bytes_max: usize) {
        self.message_bytes_max = message_bytes_max;
    }

    /// Takes bytes as they come. Callers read no more before the whole messages were taken out, so this stays bounded.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message, if there is one.
    pub(crate) fn next<M: DeserializeOwned>(&mut self) -> Result<Option<M>, DecodeError> {
        let Some(prefix) = self.bytes.first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*prefix) as usize;
        if length > self.message_bytes_max {
            return Err(DecodeError::TooLong(length));
        }
        let Some(body) = self.bytes.get(LENGTH_BYTES..LENGTH_BYTES + length) else {
            return Ok(None);
        };
        let message = serde_json::from_slice(body).map_err(DecodeError::Json)?;
        self.bytes.drain(..LENGTH_BYTES + length);
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_any_cut() {
        let commands = [
            Command::Extend {
                deadline: BootTime::from_nanos(u64::MAX),
            },
            Command::Terminate {
                signal: Signal::Term,
                grace_ms: 5,
            },
            Command::Kill,
            Command::Input {
                data: to_hex(&[0, 9, 10, 0xab, 255]),
                ends: true,
            },
        ];
        let wire: Vec<u8> = commands
            .iter()
            .flat_map(|command| encode(command).expect("a command is encoded"))
            .collect();
        for cut in 0..wire.len() {
            let mut inbox = Inbox::new(MESSAGE_BYTES_MAX);
            let mut seen = Vec::new();
            for part in [&wire[..cut], &wire[cut..]] {
                inbox.push(part);
                while let Some(command) = inbox.next::<Command>().expect("the commands decode") {
                    seen.push(command);
                }
            }
            assert_eq!(seen, commands);
        }
    }

    #[test]
    fn bytes_survive_their_digits() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(from_hex(&to_hex(&all)), Some(all));
        for text in ["0", "0g", "+1", "é"] {
            assert_eq!(from_hex(text), None, "{text}");
        }
    }

    #[test]
    fn a_length_beyond_the_bound_is_refused_before_its_bytes_come() {
        let mut inbox = Inbox::new(100);
        inbox.push(&101u32.to_le_bytes());
        assert!(matches!(
            inbox.next::<Command>(),
            Err(DecodeError::TooLong(101))
        ));
    }

    #[test]
    fn garbage_is_an_error() {
        let mut inbox = Inbox::new(100);
        inbox.push(&3u32.to_le_bytes());
        inbox.push(b"huh");
        assert!(matches!(inbox.next::<Command>(), Err(DecodeError::Json(_))));
    }
}
