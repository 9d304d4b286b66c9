//! What the black-box tests stand on: real processes of the one binary, a database for each of them, and clients that
//! know nothing but the public interface.
//!
//! - [`binaries`]: where the programs under test are
//! - [`database`]: a fresh, migrated database
//! - [`process`]: a program under test as a child that never outlives the test
//! - [`collector`]: what collects traces and metrics
//! - [`admin_page`]: the port for probes and scrapes
//! - [`deployment`]: a control plane with workers
//! - [`balancer`]: one address before several servers
//! - [`client`]: the gRPC services, and how tests say what is to be run
//! - [`inside`]: scripts that run as tasks and speak for themselves
//! - [`isolated`]: tasks that ask for isolation
//! - [`hand_worker`]: a worker that does just what a test says
//! - [`played`]: a task whose work the test itself does, by such a worker and the calls from inside
//! - [`command_line`]: the command line as a person or a script uses it
//! - [`s3_server`]: a real S3 server, which can be away
//! - [`secrets`]: tasks with secrets, and what must not show them
//! - [`handshake`]: one TLS connection by hand
//! - [`secured`]: tokens, keys and certificates for a server that asks who one is
//! - [`issuer`]: who signs tokens, and serves the keys to them
//! - [`session_files`]: a session's files, through gRPC
//! - [`skip`]: tests that cannot run here say so
//! - [`watcher`]: the events of one session, as they come
//! - [`receiver`]: a receiver of webhooks
//! - [`refusal`]: what a refused call must say
//! - [`spare_postgres`]: a Postgres that is restored from a backup, or replaced by a standby
//! - [`wait`]: waiting for a state instead of for time
//! - [`meeting`]: calls that meet
//! - [`mischief`]: the worse verbs of the probe
//! - [`pattern`]: bytes that tell where they belong

pub mod admin_page;
pub mod balancer;
pub mod binaries;
pub mod client;
pub mod collector;
pub mod command_line;
pub mod database;
pub mod deployment;
pub mod hand_worker;
pub mod handshake;
pub mod inside;
pub mod isolated;
pub mod issuer;
pub mod meeting;
pub mod mischief;
pub mod monitor;
pub mod pattern;
pub mod played;
pub mod process;
pub mod receiver;
pub mod refusal;
pub mod s3_server;
pub mod screen;
pub mod secrets;
pub mod secured;
pub mod session_files;
pub mod skip;
pub mod spare_postgres;
pub mod wait;
pub mod watcher;
