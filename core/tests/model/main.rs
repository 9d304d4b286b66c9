//! Random histories of one task, played against a small model of it that is written another way: not as states with
//! data, but as a handful of facts.
//!
//! Two workers act on every lease that they ever had, in time, late and again; a claim, a reaper, a canceller and an
//! owner act between them, and the clock moves on.

mod play;
mod reference;
mod steps;

use play::Play;
use proptest::prelude::*;
use steps::{Act, HALF, How, Item, Step, step};

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_history_goes_as_the_model_says(
        max_runs in 1..4u32,
        not_before in prop::option::weighted(0.3, (0..8i64).prop_map(|halves| halves * HALF)),
        start_deadline in prop::option::weighted(0.3, (0..12i64).prop_map(|halves| halves * HALF)),
        steps in prop::collection::vec(step(), 1..80),
        ends_by_cancel in any::<bool>(),
    ) {
        let mut play = Play::new(max_runs, not_before, start_deadline);
        for step in &steps {
            play.play(step)?;
        }
        if ends_by_cancel {
            check_it_can_end(&mut play)?;
        } else {
            check_it_can_succeed(&mut play)?;
        }
        prop_assert_eq!(play.ends, 1);
        // What comes after the end changes nothing but the generation.
        let ended = play.task.state.clone();
        for step in &steps {
            play.play(step)?;
        }
        prop_assert_eq!(play.task.state, ended);
        prop_assert_eq!(play.ends, 1);
    }
}

/// From wherever a history led: a cancel, and the loss of the worker that then still holds the task, end it.
fn check_it_can_end(play: &mut Play) -> Result<(), TestCaseError> {
    if play.task.is_terminal() {
        return Ok(());
    }
    play.play(&Step::Cancel(None))?;
    play.play(&Step::Reap {
        pick: 0,
        has_surely_not_run: false,
    })?;
    prop_assert!(play.task.is_terminal(), "{:?}", play.task);
    Ok(())
}

/// From wherever a history led, without a cancel: work that is let run and does well succeeds, unless it came too late
/// or waited for an answer that came too late.
fn check_it_can_succeed(play: &mut Play) -> Result<(), TestCaseError> {
    let newest = |act| Step::Report {
        pick: 0,
        item: Item::Next,
        act,
    };
    for _ in 0..2 {
        if let Some(id) = play.model.question.map(|asked| asked.id) {
            prop_assert_eq!(
                play.questions.last(),
                Some(&id),
                "questions come one at a time"
            );
        }
        for step in [
            Step::Answer { pick: 0 },
            Step::Lapse { pick: 0 },
            Step::Hold(false),
            Step::Wait(100_000_000),
            Step::Due,
            Step::Offer,
            newest(Act::Start),
            newest(Act::Finish(How::Well)),
        ] {
            play.play(&step)?;
        }
    }
    prop_assert!(play.task.is_terminal(), "{:?}", play.task);
    Ok(())
}
