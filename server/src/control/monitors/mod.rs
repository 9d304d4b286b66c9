//! Monitors: [`schedule`] says when one fires, [`cron_form`] how that is written, [`verdict`] what the end of a firing
//! means to the owner, [`plan`] what
//! is stored of a new one and what a firing is, [`list_monitors`] how all stand. The firing itself is a background duty.

pub mod cron_form;
pub mod evidence;
pub mod list_monitors;
pub mod plan;
pub mod schedule;
pub mod verdict;
