//! What the black-box tests stand on: real processes of the one binary, a database for each of them, and clients that
//! know nothing but the public interface.
//!
//! - [`binaries`]: where the programs under test are
//! - [`database`]: a fresh, migrated database
//! - [`process`]: a program under test as a child that never outlives the test
//! - [`deployment`]: a control plane with workers
//! - [`client`]: the gRPC services, and how tests say what is to be run
//! - [`inside`]: scripts that run as tasks and speak for themselves
//! - [`command_line`]: the command line as a person or a script uses it
//! - [`skip`]: tests that cannot run here say so
//! - [`watcher`]: the events of one session, as they come
//! - [`refusal`]: what a refused call must say
//! - [`wait`]: waiting for a state instead of for time
//! - [`pattern`]: bytes that tell where they belong

pub mod binaries;
pub mod client;
pub mod command_line;
pub mod database;
pub mod deployment;
pub mod inside;
pub mod monitor;
pub mod pattern;
pub mod process;
pub mod refusal;
pub mod skip;
pub mod wait;
pub mod watcher;
