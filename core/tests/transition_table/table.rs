//! The table, and how a verdict is written in it.
//!
//! Columns are states, rows are events. A cell is either a refusal:
//!
//! | cell | refusal | | cell | refusal |
//! |---|---|---|---|---|
//! | `dup` | already applied | | `noq` | no such question is pending |
//! | `lost` | the lease is lost | | `bad` | wrong state |
//! | `over` | the task has ended | | `moot` | nothing to do |
//! | `gone` | the question's time is up | | `no-c` | a cancel was asked for |
//!
//! or the next state (named as in the columns, an offer as `o`, failures with the first letters of their kind), followed
//! by what follows: `+` / `-` a run was counted / uncounted, `!` announced, `a` / `f` the attempt ended and gets its row,
//! without / with a failure, `c` the worker is told to cancel, `d` to drop the lease, `.` the task ended.

use taskyard_core::task::{
    Effect, ErrorKind, Failure, Gate, Order, Rejected, State, Task, TerminalState, Transition,
};

/// States: `O` queued and open, `U` queued until now, after a first run, `H` held; each also with an offer (`o`).
/// `B` held while it backs off, until after everything here. `R` running, `A` asking with its process waiting, each with
/// one run in all, and `r` with runs left, `s` with none left, `x` with a cancel requested (and runs left). `N` asking
/// unattended. `S`, `F`, `C` ended.
///
/// Reports name the held (or last) lease and the next number. `.dup` repeats the last number, `.stale` names another
/// epoch or another id, `.old` is a repeated report of the lease before. `.late` comes after start deadline and grace
/// of the question, `.early` before them; all else right at them. `.inside` has no number.
const TABLE: &str = "
event          O     Oo    U     Uo    H     Ho    B     R     Rr    Rs    Rx    A     Ar    As    Ax    N     S     F     C
start          lost  R+!   lost  R+!   lost  R+!   lost  bad   bad   bad   bad   bad   bad   bad   bad   lost  over  over  over
start.late     lost  Fs!d. lost  R+!   lost  Fs!d. lost  bad   bad   bad   bad   bad   bad   bad   bad   lost  over  over  over
start.dup      lost  dup   lost  dup   lost  dup   lost  dup   dup   dup   dup   dup   dup   dup   dup   lost  over  over  over
start.stale    lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  over  over  over
start.old      lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  over  over  over
progress       lost  bad   lost  bad   lost  bad   lost  R     R     R     R     A     A     A     A     lost  over  over  over
progress.dup   lost  dup   dup   dup   lost  dup   lost  dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup
progress.stale lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  over  over  over
artifact       lost  bad   lost  bad   lost  bad   lost  R!    R!    R!    R!    A!    A!    A!    A!    lost  over  over  over
artifact.dup   lost  dup   dup   dup   lost  dup   lost  dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup
artifact.stale lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  over  over  over
ask            lost  bad   lost  bad   lost  bad   lost  A!    A!    A!    A!    bad   bad   bad   bad   lost  over  over  over
ask.dup        lost  dup   dup   dup   lost  dup   lost  dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup
ask.stale      lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  over  over  over
post           lost  bad   lost  bad   lost  bad   lost  R     R     R     R     A     A     A     A     lost  over  over  over
post.dup       lost  dup   dup   dup   lost  dup   lost  dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup
post.stale     lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  over  over  over
receive        lost  bad   lost  bad   lost  bad   lost  R     R     R     R     A     A     A     A     lost  over  over  over
receive.dup    lost  dup   dup   dup   lost  dup   lost  dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup
receive.stale  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  over  over  over
record         lost  bad   lost  bad   lost  bad   lost  R     R     R     R     A     A     A     A     lost  over  over  over
record.dup     lost  dup   dup   dup   lost  dup   lost  dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup
record.stale   lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  over  over  over
post.inside    lost  bad   lost  bad   lost  bad   lost  R     R     R     R     A     A     A     A     lost  over  over  over
ask.inside     lost  bad   lost  bad   lost  bad   lost  A!    A!    A!    A!    bad   bad   bad   bad   lost  over  over  over
progress.inside lost  bad   lost  bad   lost  bad   lost  R     R     R     R     A     A     A     A     lost  over  over  over
finish.well    lost  bad   lost  bad   lost  bad   lost  S!.   S!.   S!.   S!.   S!.   S!.   S!.   S!.   lost  over  over  over
finish.empty   lost  bad   lost  bad   lost  bad   lost  Fn!.  U!f   Fn!.  Fn!.  Fn!.  U!f   Fn!.  Fn!.  lost  over  over  over
finish.other   lost  bad   lost  bad   lost  bad   lost  Fm!.  U!f   Fm!.  Fm!.  Fm!.  U!f   Fm!.  Fm!.  lost  over  over  over
finish.exit    lost  bad   lost  bad   lost  bad   lost  Fe!.  U!f   Fe!.  Fe!.  Fe!.  U!f   Fe!.  Fe!.  lost  over  over  over
finish.timeout lost  bad   lost  bad   lost  bad   lost  Ft!.  U!f   Ft!.  Ft!.  Ft!.  U!f   Ft!.  Ft!.  lost  over  over  over
finish.lasting lost  bad   lost  bad   lost  bad   lost  Fb!.  Fb!.  Fb!.  Fb!.  Fb!.  Fb!.  Fb!.  Fb!.  lost  over  over  over
finish.cancel  lost  bad   lost  bad   lost  bad   lost  Fw!.  U!f   Fw!.  C!.   Fw!.  U!f   Fw!.  C!.   lost  over  over  over
finish.expired lost  bad   lost  bad   lost  bad   lost  Fu!.  U!a   Fo!.  Fu!.  Fu!.  N!a   Fo!.  Fu!.  lost  over  over  over
finish.ending  lost  bad   lost  bad   lost  bad   lost  Fw!.  U!f   Fw!.  Fw!.  Fw!.  U!f   Fw!.  Fw!.  lost  over  over  over
finish.dup     lost  dup   dup   dup   lost  dup   lost  dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup
finish.stale   lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  over  over  over
finish.old     lost  dup   lost  dup   lost  dup   lost  dup   dup   dup   dup   dup   dup   dup   dup   lost  over  over  over
release        lost  O     lost  U     lost  H     lost  O-!a  O-!a  O-!a  C-!.  bad   bad   bad   bad   lost  over  over  over
release.dup    lost  dup   dup   dup   lost  dup   lost  dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup
release.stale  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  over  over  over
answer         noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   gone  gone  gone  no-c  gone  noq   noq   noq
answer.early   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   R!    R!    R!    no-c  O!    noq   noq   noq
answer.wrong   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq
deliver        O     Oo    U     Uo    H     Ho    H     R     R     R     R     A     A     A     A     N     over  over  over
lapse          noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   R!    R!    R!    R!    Fq!.  noq   noq   noq
lapse.early    noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   moot  moot  moot  moot  moot  noq   noq   noq
lapse.wrong    noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq
cancel         C!.   C!d.  C!.   C!d.  C!.   C!d.  C!.   R!c   R!c   R!c   R     A!c   A!c   A!c   A     C!.   over  over  over
cancel.grace   C!.   C!d.  C!.   C!d.  C!.   C!d.  C!.   R!c   R!c   R!c   Rc    A!c   A!c   A!c   Ac    C!.   over  over  over
cancel.longer  C!.   C!d.  C!.   C!d.  C!.   C!d.  C!.   R!c   R!c   R!c   R     A!c   A!c   A!c   A     C!.   over  over  over
enrich         O!    Oo!   U!    Uo!   H!    Ho!   H!    R!    R!    R!    R!    A!    A!    A!    A!    N!    S!    F!    C!
note           O     Oo    U     Uo    H     Ho    H     R     R     R     R     A     A     A     A     N     over  over  over
hold           H!    H!d   H!    H!d   moot  moot  moot  bad   bad   bad   bad   bad   bad   bad   bad   bad   over  over  over
unhold         moot  moot  moot  moot  O!    O!d   U!    bad   bad   bad   bad   bad   bad   bad   bad   bad   over  over  over
unhold.early   moot  moot  moot  moot  U!    U!d   U!    bad   bad   bad   bad   bad   bad   bad   bad   bad   over  over  over
lost.gone      moot  O     moot  U     moot  H     moot  Fu!.  U!a   Fo!.  Fu!.  Fu!.  N!a   Fo!.  Fu!.  moot  moot  moot  moot
lost.unstarted moot  O     moot  U     moot  H     moot  O-!a  O-!a  O-!a  C-!.  Fu!.  N!a   Fo!.  Fu!.  moot  moot  moot  moot
lost.stale     moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot
due            moot  moot  O     Oo    moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot
due.early      moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot
deadline       moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot
deadline.late  Fs!.  Fs!d. moot  moot  Fs!.  Fs!d. Fs!.  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot
";

pub fn state_labels() -> Vec<&'static str> {
    TABLE
        .trim()
        .lines()
        .next()
        .into_iter()
        .flat_map(|header| header.split_whitespace().skip(1))
        .collect()
}

pub fn rows() -> Vec<(&'static str, Vec<&'static str>)> {
    TABLE
        .trim()
        .lines()
        .skip(1)
        .map(|line| {
            let mut words = line.split_whitespace();
            (words.next().unwrap_or_default(), words.collect())
        })
        .collect()
}

/// The verdict as the table writes it.
pub fn describe(before: &Task, verdict: &Result<Transition, Rejected>) -> String {
    let transition = match verdict {
        Ok(transition) => transition,
        Err(rejected) => {
            return match rejected {
                Rejected::AlreadyApplied => "dup",
                Rejected::LeaseLost => "lost",
                Rejected::Terminal => "over",
                Rejected::NotPending => "noq",
                Rejected::Expired => "gone",
                Rejected::CancelRequested => "no-c",
                Rejected::WrongState => "bad",
                Rejected::Moot => "moot",
            }
            .to_owned();
        }
    };
    let mut text = match &transition.task.state {
        State::Queued { gate, offer } => {
            let gate = match gate {
                Gate::Open => "O",
                Gate::Until(_) => "U",
                Gate::Held { .. } => "H",
            };
            format!("{gate}{}", if offer.is_some() { "o" } else { "" })
        }
        State::Running { .. } => "R".to_owned(),
        State::AwaitingInput { lease: Some(_), .. } => "A".to_owned(),
        State::AwaitingInput { lease: None, .. } => "N".to_owned(),
        State::Terminal(TerminalState::Succeeded) => "S".to_owned(),
        State::Terminal(TerminalState::Failed) => format!("F{}", failure_letter(transition)),
        State::Terminal(TerminalState::Canceled) => "C".to_owned(),
    };
    match i64::from(transition.task.run) - i64::from(before.run) {
        0 => {}
        1 => text.push('+'),
        -1 => text.push('-'),
        other => text.push_str(&format!("[{other} runs]")),
    }
    for effect in &transition.effects {
        text.push(match effect {
            Effect::Announce => '!',
            Effect::EndAttempt(end) if end.failure.is_some() => 'f',
            Effect::EndAttempt(_) => 'a',
            Effect::End { .. } => '.',
            Effect::Tell(_, Order::Cancel { .. }) => 'c',
            Effect::Tell(_, Order::Drop) => 'd',
        });
    }
    text
}

fn failure_letter(transition: &Transition) -> &'static str {
    let failure = transition.effects.iter().find_map(|effect| match effect {
        Effect::End { failure, .. } => failure.map(|Failure { kind, .. }| kind),
        Effect::Announce | Effect::EndAttempt(_) | Effect::Tell(..) => None,
    });
    match failure {
        None => "",
        Some(ErrorKind::Exit) => "e",
        Some(ErrorKind::Signal) => "g",
        Some(ErrorKind::Timeout) => "t",
        Some(ErrorKind::StartFailed) => "f",
        Some(ErrorKind::BadOutput) => "b",
        Some(ErrorKind::WorkerError) => "w",
        Some(ErrorKind::Orphaned) => "o",
        Some(ErrorKind::OutcomeUnknown) => "u",
        Some(ErrorKind::StartDeadlineExceeded) => "s",
        Some(ErrorKind::QuestionExpired) => "q",
        Some(ErrorKind::NoResult) => "n",
        Some(ErrorKind::SchemaMismatch) => "m",
    }
}
