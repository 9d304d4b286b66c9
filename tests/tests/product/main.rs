//! The product through its public entry points: gRPC, the command line, and the files that it leaves.

mod bad_definition;
mod bad_endpoints;
mod bad_input;
mod batch_create;
mod cancel;
mod cli_run;
mod cli_verbs;
mod clone;
mod create;
mod data_directory;
mod dev;
mod endings;
mod environment;
mod files;
mod interop;
mod limits;
mod output;
mod python;
mod retries;
mod routing;
mod schemas;
mod steering;
mod timing;
mod tree_cancel;
mod updates;
mod watch;
