//! The verbs of `taskyard self`: what a task says of itself, asks its owner and starts below it, through the socket of
//! its attempt.
//!
//! [`arguments`] has the list, [`dispatch`] finds the socket. What is done with tasks below the caller is done by the
//! verbs that do it from outside.

pub mod arguments;
pub mod artifact;
pub mod ask;
pub mod dispatch;
pub mod inbox;
pub mod post;
pub mod progress;
pub mod report;
pub mod spawn;
