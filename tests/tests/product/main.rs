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
mod inside_children;
mod inside_questions;
mod inside_reports;
mod inside_socket;
mod interop;
mod monitors;
mod output;
mod python;
mod retention;
mod retries;
mod routing;
mod steering;
mod timing;
mod watch;
