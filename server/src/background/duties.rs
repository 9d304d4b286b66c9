//! Starting the duties.

use super::{gauges, monitors, object_sweeper, orders, reaper, remover, sweeper, webhooks};
use crate::app::App;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Starts all duties; they end with the server's shutdown.
pub fn start(app: &Arc<App>, tasks: &mut JoinSet<()>) {
    let own = || Arc::clone(app);
    let (reaping, sweeping, telling) = (own(), own(), own());
    let measuring = own();
    let (removing, cleaning, calling, firing) = (own(), own(), own(), own());
    tasks.spawn(async move { reaper::run(&reaping).await });
    tasks.spawn(async move { sweeper::run(&sweeping).await });
    tasks.spawn(async move { orders::run(&telling).await });
    tasks.spawn(async move { remover::run(&removing).await });
    tasks.spawn(async move { monitors::run(&firing).await });
    tasks.spawn(async move { object_sweeper::run(&cleaning).await });
    tasks.spawn(async move { gauges::run(&measuring).await });
    tasks.spawn(async move { webhooks::run(&calling).await });
}
