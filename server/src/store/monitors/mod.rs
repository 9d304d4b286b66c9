//! Monitors: what is stored of a new one ([`new_monitors`]), what is due ([`firings`]), what has ended ([`judgements`]),
//! how each stands ([`standings`]), and what is left behind ([`clearing`]). Firings and judgements are written by the
//! group commit under the lock of the monitor's task.

mod clearing;
mod columns;
mod firings;
mod judgements;
mod new_monitors;
mod standings;

pub use clearing::{forget_ended, list_left_behind, list_surplus};
pub use firings::{DueMonitor, Firing, MonitorState, list_due, note_firings, read_states, skip};
pub use judgements::{EndedFiring, Judgement, list_complete, list_ended_firings, note_judgements};
pub use new_monitors::{MonitorPart, NewMonitor, NextFiring, insert_monitors};
pub use standings::{MonitorStanding, find_standing, list_standings};
