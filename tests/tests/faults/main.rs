//! What must hold while workers, servers and the database die, freeze, come back and race each other. Every test has a
//! control plane of its own.

mod claim_plan;
mod fairness;
mod fencing;
mod firehose;
mod flow;
mod hand_worker;
mod journal;
mod lone_worker;
mod monitor_fires;
mod postgres_stall;
mod races;
mod server_restart;
mod server_stop;
mod two_servers;
mod unary_worker;
mod worker_loss;
