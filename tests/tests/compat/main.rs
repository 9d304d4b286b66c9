//! Servers of the release before work on the schema of now, whatever order a deployment is upgraded in. The records are
//! in `compat/`; `scripts/record-release` writes that of this version.

mod catalog;
mod conversation;
mod newer_schema;
mod recording;
#[path = "../../../compat/releases.rs"]
mod releases;
mod schema;
mod schema_text;
mod statements;
