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
//! without / with a failure, `h` it ended and its run goes on under another lease, `c` the worker is told to cancel, `d`
//! to drop the lease, `.` the task ended, `~` the run does not count against the retry.

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
/// of the question, `.early` before them; all else right at them. `.inside` has no number. `reattach.again` names a lease
/// before the held one, and the held one as the next.
const TABLE: &str = "
event          O     Oo    U     Uo    H     Ho    B     R     Rr    Rs    Rx    A     Ar    As    Ax    N     S     F     C     M     Mh
start          lost  R+!   lost  R+!   lost  R+!   lost  bad   bad   bad   bad   bad   bad   bad   bad   lost  over  over  over  lost  lost
start.late     lost  Fs!d. lost  R+!   lost  Fs!d. lost  bad   bad   bad   bad   bad   bad   bad   bad   lost  over  over  over  lost  lost
start.dup      lost  dup   lost  dup   lost  dup   lost  dup   dup   dup   dup   dup   dup   dup   dup   lost  over  over  over  lost  lost
start.stale    lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  over  over  over  lost  lost
start.old      lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  over  over  over  lost  lost
progress       lost  bad   lost  bad   lost  bad   lost  R     R     R     R     A     A     A     A     lost  over  over  over  lost  lost
progress.dup   lost  dup   dup   dup   lost  dup   lost  dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   lost  lost
progress.stale lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  over  over  over  lost  lost
artifact       lost  bad   lost  bad   lost  bad   lost  R!    R!    R!    R!    A!    A!    A!    A!    lost  over  over  over  lost  lost
artifact.dup   lost  dup   dup   dup   lost  dup   lost  dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   lost  lost
artifact.stale lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  over  over  over  lost  lost
ask            lost  bad   lost  bad   lost  bad   lost  A!    A!    A!    A!    bad   bad   bad   bad   lost  over  over  over  lost  lost
ask.dup        lost  dup   dup   dup   lost  dup   lost  dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   lost  lost
ask.stale      lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  over  over  over  lost  lost
post           lost  bad   lost  bad   lost  bad   lost  R     R     R     R     A     A     A     A     lost  over  over  over  lost  lost
post.dup       lost  dup   dup   dup   lost  dup   lost  dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   lost  lost
post.stale     lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  over  over  over  lost  lost
receive        lost  bad   lost  bad   lost  bad   lost  R     R     R     R     A     A     A     A     lost  over  over  over  lost  lost
receive.dup    lost  dup   dup   dup   lost  dup   lost  dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   lost  lost
receive.stale  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  over  over  over  lost  lost
record         lost  bad   lost  bad   lost  bad   lost  R     R     R     R     A     A     A     A     lost  over  over  over  lost  lost
record.dup     lost  dup   dup   dup   lost  dup   lost  dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   lost  lost
record.stale   lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  over  over  over  lost  lost
post.inside    lost  bad   lost  bad   lost  bad   lost  R     R     R     R     A     A     A     A     lost  over  over  over  lost  lost
ask.inside     lost  bad   lost  bad   lost  bad   lost  A!    A!    A!    A!    bad   bad   bad   bad   lost  over  over  over  lost  lost
progress.inside lost  bad   lost  bad   lost  bad   lost  R     R     R     R     A     A     A     A     lost  over  over  over  lost  lost
finish.well    lost  bad   lost  bad   lost  bad   lost  S!.   S!.   S!.   S!.   S!.   S!.   S!.   S!.   lost  over  over  over  lost  lost
finish.empty   lost  bad   lost  bad   lost  bad   lost  Fn!.  U!f   Fn!.  Fn!.  Fn!.  U!f   Fn!.  Fn!.  lost  over  over  over  lost  lost
finish.other   lost  bad   lost  bad   lost  bad   lost  Fm!.  U!f   Fm!.  Fm!.  Fm!.  U!f   Fm!.  Fm!.  lost  over  over  over  lost  lost
finish.exit    lost  bad   lost  bad   lost  bad   lost  Fe!.  U!f   Fe!.  Fe!.  Fe!.  U!f   Fe!.  Fe!.  lost  over  over  over  lost  lost
finish.timeout lost  bad   lost  bad   lost  bad   lost  Ft!.  U!f   Ft!.  Ft!.  Ft!.  U!f   Ft!.  Ft!.  lost  over  over  over  lost  lost
finish.lasting lost  bad   lost  bad   lost  bad   lost  Fb!.  Fb!.  Fb!.  Fb!.  Fb!.  Fb!.  Fb!.  Fb!.  lost  over  over  over  lost  lost
finish.cancel  lost  bad   lost  bad   lost  bad   lost  Fw!.  U!f   Fw!.  C!.   Fw!.  U!f   Fw!.  C!.   lost  over  over  over  lost  lost
finish.expired lost  bad   lost  bad   lost  bad   lost  Fu!.  U!a   Fo!.  Fu!.  Fu!.  N!a   Fo!.  Fu!.  lost  over  over  over  lost  lost
finish.ending  lost  bad   lost  bad   lost  bad   lost  Fw!.  O!f~  O!f~  Fw!.  Fw!.  N!f~  N!f~  Fw!.  lost  over  over  over  lost  lost
finish.dup     lost  dup   dup   dup   lost  dup   lost  dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   lost  lost
finish.stale   lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  over  over  over  lost  lost
finish.old     lost  dup   lost  dup   lost  dup   lost  dup   dup   dup   dup   dup   dup   dup   dup   lost  over  over  over  lost  lost
release        lost  O     lost  U     lost  H     lost  O-!a  O-!a  O-!a  C-!.  bad   bad   bad   bad   lost  over  over  over  lost  lost
release.dup    lost  dup   dup   dup   lost  dup   lost  dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   dup   lost  lost
release.stale  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  lost  over  over  over  lost  lost
answer         noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   gone  gone  gone  no-c  gone  noq   noq   noq   noq   noq
answer.early   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   R!    R!    R!    no-c  O!    noq   noq   noq   noq   noq
answer.wrong   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq
deliver        O     Oo    U     Uo    H     Ho    H     R     R     R     R     A     A     A     A     N     over  over  over  never never
lapse          noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   R!    R!    R!    R!    Fq!.  noq   noq   noq   noq   noq
lapse.early    noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   moot  moot  moot  moot  moot  noq   noq   noq   noq   noq
lapse.wrong    noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq   noq
cancel         C!.   C!d.  C!.   C!d.  C!.   C!d.  C!.   R!c   R!c   R!c   R     A!c   A!c   A!c   A     C!.   over  over  over  C!.   C!.
cancel.grace   C!.   C!d.  C!.   C!d.  C!.   C!d.  C!.   R!c   R!c   R!c   Rc    A!c   A!c   A!c   Ac    C!.   over  over  over  C!.   C!.
cancel.longer  C!.   C!d.  C!.   C!d.  C!.   C!d.  C!.   R!c   R!c   R!c   R     A!c   A!c   A!c   A     C!.   over  over  over  C!.   C!.
enrich         O!    Oo!   U!    Uo!   H!    Ho!   H!    R!    R!    R!    R!    A!    A!    A!    A!    N!    S!    F!    C!    M!    H!
note           O     Oo    U     Uo    H     Ho    H     R     R     R     R     A     A     A     A     N     over  over  over  M     H
hold           H!    H!d   H!    H!d   moot  moot  moot  bad   bad   bad   bad   bad   bad   bad   bad   bad   over  over  over  H!    moot
unhold         moot  moot  moot  moot  O!    O!d   U!    bad   bad   bad   bad   bad   bad   bad   bad   bad   over  over  over  moot  M!
unhold.early   moot  moot  moot  moot  U!    U!d   U!    bad   bad   bad   bad   bad   bad   bad   bad   bad   over  over  over  moot  M!
lost.gone      moot  O     moot  U     moot  H     moot  Fu!.  U!a   Fo!.  Fu!.  Fu!.  N!a   Fo!.  Fu!.  moot  moot  moot  moot  moot  moot
lost.unstarted moot  O     moot  U     moot  H     moot  O-!a  O-!a  O-!a  C-!.  Fu!.  N!a   Fo!.  Fu!.  moot  moot  moot  moot  moot  moot
lost.stale     moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot
reattach       moot  moot  moot  moot  moot  moot  moot  R!h   R!h   R!h   R!hc  A!h   A!h   A!h   A!hc  moot  moot  moot  moot  moot  moot
reattach.again moot  moot  moot  moot  moot  moot  moot  dup   dup   dup   dup   dup   dup   dup   dup   moot  moot  moot  moot  moot  moot
reattach.stale moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot
due            moot  moot  O     Oo    moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot
due.early      moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot
deadline       moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot
deadline.late  Fs!.  Fs!d. moot  moot  Fs!.  Fs!d. Fs!.  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot  moot
complete       bad   bad   bad   bad   bad   bad   bad   bad   bad   bad   bad   bad   bad   bad   bad   bad   over  over  over  S!.   S!.
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
                Rejected::NeverRuns => "never",
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
                Gate::Monitor => "M",
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
            Effect::EndAttempt(end) if end.goes_on => 'h',
            Effect::EndAttempt(_) => 'a',
            Effect::End { .. } => '.',
            Effect::Tell(_, Order::Cancel { .. }) => 'c',
            Effect::Tell(_, Order::Drop) => 'd',
        });
    }
    if transition.task.forgiven > before.forgiven {
        text.push('~');
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
        Some(ErrorKind::IsolationUnavailable) => "i",
        Some(ErrorKind::OomKilled) => "k",
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
