//! How old connections become. A connection that stays for ever keeps its client at one server, whatever is added beside
//! it, and keeps the certificates of both ends in use for as long. So each gets an age, and comes to its end in three
//! steps, politely: calls and streams that are under way fail by none of the first two.
//!
//! 1. At its age it is told that no new calls are taken (GOAWAY); clients make the next one on another connection.
//! 2. A little later its long streams end with CONNECTION_AGED, and go on upon another connection.
//! 3. What is open then ends by itself; an hour later the connection is cut.

use rand::Rng;
use std::time::Duration;

/// Ages vary by so much to either side, so that connections that came at once do not go at once.
const AGE_SPREAD: f64 = 0.15;
/// Streams end within this share of the age after the first step, and within so long at most.
const PARTING_SHARE: f64 = 0.1;
const MAX_PARTING: Duration = Duration::from_secs(30);
/// How long calls may go on upon a connection that takes no new ones: far longer than the longest wait in one call, which
/// is ten minutes, and than the transfer of a large file.
const LAST_CALLS: Duration = Duration::from_secs(60 * 60);

/// The steps of one connection, each counted from the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lifetime {
    /// From the start until no new calls are taken.
    pub(super) age: Duration,
    /// Then until its streams end.
    pub(super) parting: Duration,
    /// Then until it is cut.
    pub(super) last_calls: Duration,
}

impl Lifetime {
    /// One of about that age, drawn by chance.
    pub(super) fn draw(age: Duration, chance: &mut impl Rng) -> Self {
        let longest_parting = age.mul_f64(PARTING_SHARE).min(MAX_PARTING);
        Self {
            age: age.mul_f64(chance.random_range(1.0 - AGE_SPREAD..=1.0 + AGE_SPREAD)),
            parting: longest_parting.mul_f64(chance.random_range(0.0..=1.0)),
            last_calls: LAST_CALLS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::StdRng};

    #[test]
    fn connections_that_come_at_once_do_not_go_at_once() {
        let mut chance = StdRng::seed_from_u64(7);
        let age = Duration::from_secs(1_800);
        let drawn: Vec<Lifetime> = (0..1_000)
            .map(|_| Lifetime::draw(age, &mut chance))
            .collect();
        for lifetime in &drawn {
            assert!(
                lifetime.age >= age.mul_f64(0.849) && lifetime.age <= age.mul_f64(1.151),
                "{lifetime:?}"
            );
            assert!(lifetime.parting <= MAX_PARTING, "{lifetime:?}");
        }
        let in_first_half = drawn.iter().filter(|one| one.age < age).count();
        assert!((400..600).contains(&in_first_half), "{in_first_half}");
        let youngest = Lifetime::draw(Duration::from_secs(1), &mut chance);
        assert!(youngest.parting <= Duration::from_millis(100));
    }
}
