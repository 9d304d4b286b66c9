//! What must hold while workers, servers and the database die, freeze, come back and race each other. Every test has a
//! control plane of its own.

mod arena;
mod batch_races;
mod certificate_rotation;
mod claim_plan;
mod cli_restart;
mod collected_paths;
mod connection_age;
mod fairness;
mod fencing;
mod firehose;
mod flow;
mod greedy_client;
mod hostile_machine;
mod hostile_output;
mod hostile_processes;
mod inside_result;
mod isolated_survival;
mod journal;
mod list_plan;
mod lone_worker;
mod migrate_race;
mod misbehaving_client;
mod monitor_fires;
mod odd_reports;
mod postgres_stall;
mod races;
mod reattach;
mod restore;
mod restore_copies;
mod rolling_restart;
mod server_restart;
mod server_stop;
mod survival;
mod surviving_terminal;
mod thread_races;
mod tree_race;
mod two_servers;
mod unary_worker;
mod watchers;
mod worker_loss;

use taskyard_tests::hand_worker;
