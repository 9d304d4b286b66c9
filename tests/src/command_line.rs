//! The command line as a person or a script uses it: arguments in, streams and an exit code out, always with an end.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::binaries;
use crate::process::send;
use crate::screen::Screen;
use crate::wait::{SOON, eventually, within};

/// `taskyard` against one endpoint, with nothing of the caller's own Taskyard environment.
#[derive(Debug, Clone)]
pub struct CommandLine {
    env: Vec<(OsString, OsString)>,
    folder: Option<PathBuf>,
    wrapper: Vec<OsString>,
}

impl CommandLine {
    /// Calls go to `endpoint`, unless a flag says otherwise.
    pub fn new(endpoint: &str) -> CommandLine {
        CommandLine {
            env: vec![("TASKYARD_ENDPOINT".into(), endpoint.into())],
            ..CommandLine::bare()
        }
    }

    /// Calls go to the default endpoint.
    pub fn bare() -> CommandLine {
        CommandLine {
            env: Vec::new(),
            folder: None,
            wrapper: Vec::new(),
        }
    }

    /// Sets a variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> CommandLine {
        self.env.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// Sets the working directory.
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> CommandLine {
        self.folder = Some(folder.into());
        self
    }

    /// Has another program start it, with these arguments before its own.
    pub fn through(mut self, wrapper: &[&str]) -> CommandLine {
        self.wrapper = wrapper.iter().map(Into::into).collect();
        self
    }

    /// Runs to the end with nothing to read.
    pub async fn run<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Finished {
        self.start(arguments).finish().await
    }

    /// Runs to the end with `input` to read.
    pub async fn run_with_input<A: AsRef<OsStr>>(&self, arguments: &[A], input: &[u8]) -> Finished {
        let mut running = self.launch(arguments, Stdio::piped());
        if let Some(mut stdin) = running.child.stdin.take() {
            let _ = stdin.write_all(input).await;
        }
        running.finish().await
    }

    /// Starts without waiting for the end.
    pub fn start<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Running {
        self.launch(arguments, Stdio::null())
    }

    /// Starts it on a terminal of this size.
    pub fn start_on_screen<A: AsRef<OsStr>>(&self, arguments: &[A], size: (u16, u16)) -> Screen {
        Screen::start(self.command(arguments), size)
    }

    fn command<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Command {
        let mut words = self.wrapper.clone();
        words.push(binaries::taskyard().into());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TASKYARD_") {
                command.env_remove(name);
            }
        }
        command
            .args(arguments)
            // tests run side by side, and the usual port is one
            .env("TASKYARD_ADMIN_LISTEN", "off")
            .envs(self.env.iter().cloned())
            .kill_on_drop(true);
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command
    }

    fn launch<A: AsRef<OsStr>>(&self, arguments: &[A], stdin: Stdio) -> Running {
        let mut command = self.command(arguments);
        command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run taskyard: {error}"));
        let what: Vec<_> = arguments
            .iter()
            .map(|word| word.as_ref().to_string_lossy())
            .collect();
        let stdout = child.stdout.take().map(Gathered::start);
        let stderr = child.stderr.take().map(Gathered::start);
        Running {
            what: format!("`taskyard {}`", what.join(" ")),
            child,
            stdout: stdout.unwrap_or_default(),
            stderr: stderr.unwrap_or_default(),
        }
    }
}

/// A call that has not ended yet. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    what: String,
    child: Child,
    stdout: Gathered,
    stderr: Gathered,
}

impl Running {
    /// Its process id; none once it was waited for.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.child.id() {
            send(pid, signal);
        }
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits until standard output holds `text`.
    pub async fn stdout_has(&self, text: &str) {
        self.shows(text, &self.stdout).await;
    }

    /// Waits until standard error holds `text`.
    pub async fn stderr_has(&self, text: &str) {
        self.shows(text, &self.stderr).await;
    }

    /// True while it has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for the end, at most [`SOON`].
    pub async fn finish(self) -> Finished {
        self.finish_within(SOON).await
    }

    /// Waits for the end, at most `limit`.
    pub async fn finish_within(mut self, limit: Duration) -> Finished {
        let status = match tokio::time::timeout(limit, self.child.wait()).await {
            Ok(status) => status.unwrap_or_else(|error| panic!("cannot wait: {error}")),
            Err(_) => panic!(
                "{} did not end within {limit:?}\n{}{}",
                self.what,
                self.stdout(),
                self.stderr()
            ),
        };
        let what = format!("the streams of {} to close", self.what);
        let (stdout, stderr) = within(&what, limit, async {
            (self.stdout.whole().await, self.stderr.whole().await)
        })
        .await;
        Finished {
            what: self.what,
            status,
            stdout,
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        }
    }

    async fn shows(&self, text: &str, stream: &Gathered) {
        let what = format!("{} to print {text:?}", self.what);
        let found = tokio::time::timeout(
            SOON,
            eventually(&what, SOON * 2, async || {
                stream.text().contains(text).then_some(())
            }),
        );
        if found.await.is_err() {
            panic!(
                "waited for {what}; it printed\n{}{}",
                self.stdout(),
                self.stderr()
            );
        }
    }
}

/// A call that has ended.
#[derive(Debug)]
pub struct Finished {
    what: String,
    /// How it ended.
    pub status: ExitStatus,
    /// All of standard output.
    pub stdout: Vec<u8>,
    /// All of standard error.
    pub stderr: String,
}

impl Finished {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard output as one JSON value.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout)
            .unwrap_or_else(|error| panic!("{} printed no JSON ({error}): {self:?}", self.what))
    }

    /// The exit code.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Holds it to an exit code.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Finished {
        assert_eq!(
            self.status.code(),
            Some(code),
            "{}\nstdout: {}\nstderr: {}",
            self.what,
            self.text(),
            self.stderr
        );
        self
    }
}

/// A stream that is read all the time.
#[derive(Debug, Default)]
struct Gathered {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Gathered {
    fn start(mut stream: impl AsyncRead + Unpin + Send + 'static) -> Gathered {
        let bytes: Arc<Mutex<Vec<u8>>> = Arc::default();
        let sink = Arc::clone(&bytes);
        let reader = tokio::spawn(async move {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                let mut sink = sink.lock().unwrap_or_else(PoisonError::into_inner);
                sink.extend_from_slice(&buffer[..length]);
            }
        });
        Gathered {
            bytes,
            reader: Some(reader),
        }
    }

    fn text(&self) -> String {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    async fn whole(&mut self) -> Vec<u8> {
        if let Some(reader) = self.reader.take() {
            let _ = reader.await;
        }
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *bytes)
    }
}
