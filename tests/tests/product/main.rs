//! The product through its public entry points: gRPC, the command line, and the files that it leaves.

mod bad_definition;
mod bad_endpoints;
mod bad_input;
mod cancel;
mod cli_run;
mod cli_verbs;
mod create;
mod data_directory;
mod dev;
mod endings;
mod environment;
mod files;
mod interop;
mod output;
mod python;
mod questions;
mod retries;
mod routing;
mod steering;
mod threads;
mod timing;
mod wakes;
mod watch;
mod webhooks;
