//! A whole Taskyard in one process: `dev`, and `run --dev`.
//!
//! - [`listen`] is about the address to serve on;
//! - [`database`] is the database, a private one or a given one;
//! - [`embedded`] starts database, server and worker in this order and stops them in the other;
//! - [`service`] has the flags that it shares with `server`;
//! - `secret_key` makes the key for secrets;
//! - [`storage`] has the flags about files;
//! - [`serve`] is the verb `dev` itself;
//! - [`welcome`] is the task that shows a newcomer that everything works.

pub mod database;
pub mod embedded;
pub mod listen;
mod secret_key;
mod serve;
pub mod service;
pub mod storage;
mod welcome;

pub use serve::{DevArguments, execute};
