//! A task in the foreground: created, followed to its end, and steered with Ctrl-C.

use std::time::Duration;

use taskyard_proto::v1::{
    CancelOutcome, Pty, SessionTask, TaskDefinition, TaskState, WriteInputResponse,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::commands::create::create_task;
use crate::commands::steer::{Cancel, Canceled, cancel_task};
use crate::connection::Connection;
use crate::console;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, is_terminal};
use crate::input_sender::send_input;
use crate::interrupt::Interrupts;
use crate::output_follower::{FollowPlan, follow, read_task};
use crate::output_printer::OutputPrinter;
use crate::task_reference::TaskReference;
use crate::terminal::keys::read_keys;
use crate::terminal::raw::RawTerminal;
use crate::terminal::size::follow_size;
use crate::unstarted;
use crate::view::task_detail::exit_line;
use crate::view::task_table::took;

/// How long to try while the server cannot be reached.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is to be run, and where.
#[derive(Debug)]
pub struct Foreground<'a> {
    pub connection: &'a Connection,
    pub session_id: &'a str,
    pub definition: TaskDefinition,
    /// False: the server ends with this command, and the task with it.
    pub goes_on_without_us: bool,
}

/// Creates the task, follows it to its end and gives its exit code. The first interrupt asks for a cooperative cancel,
/// the second kills, the third leaves.
pub async fn run_in_foreground(
    foreground: Foreground<'_>,
    interrupts: &mut Interrupts,
) -> Result<ExitCode, Failure> {
    let connection = foreground.connection;
    let takes_input = takes_live_input(&foreground.definition);
    let pty = pty(&foreground.definition);
    let mut n_interrupts = 0_u32;
    let task = {
        let creating = create_task(connection, foreground.session_id, foreground.definition);
        tokio::pin!(creating);
        loop {
            tokio::select! {
                created = &mut creating => {
                    let (task, is_new) = created?;
                    if !is_new {
                        console::note(&format!("t{} was there before, by its key", task.ordinal));
                    }
                    break task;
                }
                () = interrupts.next() => {
                    n_interrupts += 1;
                    if n_interrupts > 1 {
                        let text = "interrupted while creating the task; `taskyard list` shows whether it came to be";
                        return Err(Failure::Interrupted(text.to_owned()));
                    }
                    console::note("the task is being created and will be canceled at once; again leaves");
                }
            }
        }
    };
    console::note(&format!(
        "t{} {} in session {}",
        task.ordinal,
        task.id,
        console::clean(&task.session_id)
    ));
    let steering = Steering {
        connection,
        task: TaskReference::new(&task.id, None),
        label: format!("t{}", task.ordinal),
        n_interrupts,
        requests: JoinSet::new(),
        feeding: JoinSet::new(),
        takes_input,
        sizing: JoinSet::new(),
        pty,
        goes_on_without_us: foreground.goes_on_without_us,
    };
    steering.follow_to_end(interrupts).await
}

struct Steering<'a> {
    connection: &'a Connection,
    task: TaskReference,
    label: String,
    n_interrupts: u32,
    requests: JoinSet<Result<Canceled, Failure>>,
    /// Sends standard input, where the task takes it. It ends with this.
    feeding: JoinSet<Result<WriteInputResponse, Failure>>,
    takes_input: bool,
    /// Tells the task of the size of the terminal here, where it has one of its own.
    sizing: JoinSet<Result<(), Failure>>,
    pty: Option<Pty>,
    goes_on_without_us: bool,
}

impl Steering<'_> {
    async fn follow_to_end(mut self, interrupts: &mut Interrupts) -> Result<ExitCode, Failure> {
        let mut printer = OutputPrinter::new();
        if self.n_interrupts > 0 {
            self.ask_for_cancel(None);
        }
        let plan = FollowPlan::whole_task(self.task.clone(), PATIENCE);
        let connection = self.connection.clone();
        let keyboard = self.open_keyboard()?;
        let raw = keyboard.raw;
        let mut left = keyboard.left;
        let waited = self.task.clone();
        let waiting = unstarted::watch(&connection, &waited);
        tokio::pin!(waiting);
        // The server of `run --dev` has one worker, which takes everything, and nobody could ask it.
        let mut is_hint_due = self.goes_on_without_us;
        let followed = {
            let following = follow(&connection, plan, &mut printer);
            tokio::pin!(following);
            loop {
                tokio::select! {
                    ended = &mut following => break ended,
                    hint = &mut waiting, if is_hint_due => {
                        is_hint_due = false;
                        if let Some(hint) = hint {
                            console::note(&hint);
                        }
                    }
                    () = interrupts.next() => {
                        if let Some(failure) = self.interrupted() {
                            return Err(failure);
                        }
                    }
                    Some(()) = left.recv() => return Err(self.left()),
                    Some(answer) = self.requests.join_next() => self.tell_answer(answer),
                    Some(fed) = self.feeding.join_next() => tell_feeding(fed),
                }
            }
        };
        drop(raw);
        if let Err(Failure::BrokenPipe) = followed {
            // The work does not see that nobody reads it any more.
            let goes_on = if self.goes_on_without_us {
                format!(
                    "{} goes on; stop it with `taskyard cancel {}`",
                    self.label, self.task.task
                )
            } else {
                format!("{} is stopped", self.label)
            };
            printer
                .note(&format!("standard output was closed; {goes_on}"))
                .await;
        }
        followed?;
        let task = read_task(self.connection, &self.task, PATIENCE).await?;
        let text = summary_line(&task, is_said_by_output(&task));
        printer.note(&text).await;
        Ok(ExitCode::of_task(&task))
    }

    /// What one more interrupt means; a failure: leave.
    fn interrupted(&mut self) -> Option<Failure> {
        self.n_interrupts += 1;
        match self.n_interrupts {
            1 => {
                console::note(&format!("canceling {}; Ctrl-C again kills it", self.label));
                self.ask_for_cancel(None);
                None
            }
            2 => {
                console::note(&format!("killing {}; Ctrl-C again leaves", self.label));
                self.ask_for_cancel(Some(Duration::ZERO));
                None
            }
            _ => Some(self.left()),
        }
    }

    fn left(&self) -> Failure {
        Failure::Interrupted(if self.goes_on_without_us {
            format!(
                "left; {} may still be running, see `taskyard get {}`",
                self.label, self.task.task
            )
        } else {
            format!("left; {} is stopped with its server", self.label)
        })
    }

    /// Begins to send standard input, where the task takes it, and to tell it of the size of the terminal, where it has
    /// one. The keys of a terminal here are its own then.
    fn open_keyboard(&mut self) -> Result<Keyboard, Failure> {
        let (connection, task) = (self.connection.clone(), self.task.clone());
        if let Some(pty) = self.pty.clone() {
            let (connection, task) = (connection.clone(), task.clone());
            self.sizing
                .spawn(async move { follow_size(&connection, &task, &pty).await });
        }
        let (leaving, left) = mpsc::channel(1);
        let mut keyboard = Keyboard { raw: None, left };
        if !self.takes_input {
            return Ok(keyboard);
        }
        if self.pty.is_some() {
            keyboard.raw = RawTerminal::enter()?;
        }
        if keyboard.raw.is_none() {
            self.feeding.spawn(async move {
                send_input(&connection, &task, tokio::io::stdin(), true).await
            });
            return Ok(keyboard);
        }
        console::note("keys are the task's; Enter ~ . leaves it");
        listen_for_hangup(leaving.clone())?;
        let keys = read_keys(leaving);
        self.feeding
            .spawn(async move { send_input(&connection, &task, keys, true).await });
        Ok(keyboard)
    }

    fn ask_for_cancel(&mut self, grace: Option<Duration>) {
        let connection = self.connection.clone();
        let task = self.task.clone();
        self.requests
            .spawn(async move { cancel_task(&connection, &task, Cancel::of_task(grace)).await });
    }

    fn tell_answer(&self, answer: Result<Result<Canceled, Failure>, tokio::task::JoinError>) {
        let text = match answer {
            Ok(Ok(canceled)) => match canceled.outcome {
                // The end of the task itself is told in a moment.
                CancelOutcome::Canceled
                | CancelOutcome::AlreadyTerminal
                | CancelOutcome::AlreadyRequested => return,
                CancelOutcome::Requested => format!("{} was told to stop", self.label),
                CancelOutcome::Unspecified => {
                    format!("the server took the cancel of {}", self.label)
                }
            },
            Ok(Err(failure)) => format!("the cancel did not get through: {failure}"),
            Err(error) => format!("the cancel did not get through: {error}"),
        };
        console::note(&text);
    }
}

/// Where keys come from that are the task's.
struct Keyboard {
    /// Present while the terminal here has given its keys away.
    raw: Option<RawTerminal>,
    /// The user leaves.
    left: mpsc::Receiver<()>,
}

/// A terminal that is gone, or SIGQUIT from elsewhere, must not leave its modes changed: the program leaves the task.
fn listen_for_hangup(leaving: mpsc::Sender<()>) -> Result<(), Failure> {
    let open = |kind| {
        signal(kind).map_err(|error| Failure::Own(format!("cannot listen for signals: {error}")))
    };
    let mut hangup = open(SignalKind::hangup())?;
    let mut quit = open(SignalKind::quit())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = hangup.recv() => {}
            _ = quit.recv() => {}
        }
        // Whoever is told ends the program.
        let _ = leaving.send(()).await;
    });
    Ok(())
}

fn pty(definition: &TaskDefinition) -> Option<Pty> {
    let command = definition.spec.as_ref()?.command.as_ref()?;
    command.pty.clone()
}

fn takes_live_input(definition: &TaskDefinition) -> bool {
    let command = definition
        .spec
        .as_ref()
        .and_then(|spec| spec.command.as_ref());
    command.is_some_and(|command| command.stdin_live)
}

/// Input for a process that has ended is no news: its end is told in a moment.
fn tell_feeding(fed: Result<Result<WriteInputResponse, Failure>, tokio::task::JoinError>) {
    match fed {
        Ok(Ok(_)) | Ok(Err(Failure::Refused(_))) => {}
        Ok(Err(failure)) => {
            console::note(&format!("standard input is not sent any more: {failure}"));
        }
        Err(error) => console::note(&format!("standard input is not sent any more: {error}")),
    }
}

/// Whether what there is to know of a failure was in the output that was just shown.
fn is_said_by_output(task: &SessionTask) -> bool {
    let kind = task.error.as_ref().map_or("", |error| error.kind.as_str());
    matches!(kind, "exit" | "signal")
}

/// How a task ended, in one line, with the hint of its failure unless that would say nothing new.
pub fn summary_line(task: &SessionTask, without_hint: bool) -> String {
    let label = format!("t{}", task.ordinal);
    let runs = if task.run > 1 {
        format!(" after {} runs", task.run)
    } else {
        String::new()
    };
    let state = crate::view::words::state(task.state());
    if !is_terminal(task.state()) {
        return format!(
            "{label} is {state}; its output ended here, see `taskyard get {}`",
            task.id
        );
    }
    if task.state() == TaskState::Succeeded {
        return match took(task) {
            took if took == "-" => format!("{label} {state}{runs}"),
            took => format!("{label} {state} in {took}{runs}"),
        };
    }
    // the summary says how long the run took
    let mut text = format!("{label} {state}");
    let reason = match (&task.error, task.summary.is_empty()) {
        (_, false) => task.summary.clone(),
        (Some(error), true) => error.message.clone(),
        (None, true) => task.exit.as_ref().map(exit_line).unwrap_or_default(),
    };
    // The summary of a canceled task begins with its state.
    let reason = console::clean(&reason);
    match reason.strip_prefix(state) {
        Some(rest) => text.push_str(&format!("{rest}{runs}")),
        None if reason.is_empty() => text.push_str(&runs),
        None => text.push_str(&format!("{runs}: {reason}")),
    }
    if let Some(error) = task.error.as_ref().filter(|error| !error.hint.is_empty())
        && !without_hint
    {
        text.push_str("; ");
        text.push_str(&console::clean(&error.hint));
    }
    text
}
