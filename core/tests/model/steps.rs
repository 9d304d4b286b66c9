//! What can happen to a task, and how often it does.

use crate::reference::Asked;
use proptest::prelude::*;

/// What somebody does. `pick` chooses among all leases that were ever offered or questions that were ever asked, counted
/// from the newest.
#[derive(Clone, Debug)]
pub enum Step {
    Wait(i64),
    Offer,
    Report {
        pick: usize,
        item: Item,
        act: Act,
    },
    Reap {
        pick: usize,
        has_surely_not_run: bool,
    },
    /// A newer boot takes over the process of a lease; again: its answer was lost.
    Reattach {
        pick: usize,
        again: bool,
    },
    Cancel(Option<u64>),
    Answer {
        pick: usize,
    },
    Lapse {
        pick: usize,
    },
    Hold(bool),
    Due,
    Deadline,
    Enrich,
    Note,
}

/// Which number a report bears; or, with the next one, which half of the lease's identity it has wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Item {
    Next,
    Repeated,
    WrongEpoch,
    WrongId,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Act {
    Start,
    Progress,
    Artifact,
    /// The id is given when it is played.
    Ask(Asked),
    Release,
    Finish(How),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum How {
    Well,
    Exit,
    Timeout,
    BadOutput,
    Canceled,
    Expired,
    Ending,
}

/// Times are multiples of half a second, so that what is due is often due to the microsecond.
pub const HALF: i64 = 500_000;

fn how() -> impl Strategy<Value = How> {
    prop_oneof![
        1 => Just(How::Well),
        3 => Just(How::Exit),
        1 => Just(How::Timeout),
        1 => Just(How::BadOutput),
        1 => Just(How::Canceled),
        2 => Just(How::Expired),
        2 => Just(How::Ending),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let asked = prop::option::of((0..6i64).prop_map(|halves| halves * HALF))
        .prop_map(|expires_at| Asked { id: 0, expires_at });
    prop_oneof![
        6 => Just(Act::Start),
        1 => Just(Act::Progress),
        1 => Just(Act::Artifact),
        4 => asked.prop_map(Act::Ask),
        2 => Just(Act::Release),
        4 => how().prop_map(Act::Finish),
    ]
}

/// Mostly the newest one, else an older one.
fn pick() -> impl Strategy<Value = usize> {
    prop_oneof![5 => Just(0usize), 1 => 1..4usize]
}

pub fn step() -> impl Strategy<Value = Step> {
    let item = prop_oneof![
        20 => Just(Item::Next),
        4 => Just(Item::Repeated),
        1 => Just(Item::WrongEpoch),
        1 => Just(Item::WrongId),
    ];
    let report =
        (pick(), item, act()).prop_map(|(pick, item, act)| Step::Report { pick, item, act });
    let reap =
        (pick(), prop::bool::weighted(0.3)).prop_map(|(pick, has_surely_not_run)| Step::Reap {
            pick,
            has_surely_not_run,
        });
    prop_oneof![
        4 => (0..4i64).prop_map(|halves| Step::Wait(halves * HALF)),
        8 => Just(Step::Offer),
        20 => report,
        3 => reap,
        3 => (pick(), prop::bool::weighted(0.3))
            .prop_map(|(pick, again)| Step::Reattach { pick, again }),
        2 => prop::option::of(1..60u64).prop_map(Step::Cancel),
        3 => pick().prop_map(|pick| Step::Answer { pick }),
        2 => pick().prop_map(|pick| Step::Lapse { pick }),
        2 => any::<bool>().prop_map(Step::Hold),
        6 => Just(Step::Due),
        1 => Just(Step::Deadline),
        1 => Just(Step::Enrich),
        1 => Just(Step::Note),
    ]
}
