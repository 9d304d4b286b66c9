//! Monitors: how tests make them and see how they stand.

use taskyard_proto::v1::{
    ListMonitorsRequest, ListTasksRequest, Monitor, MonitorOverlap, MonitorSchedule, MonitorWake,
    SessionTask, TakeWakesRequest, TaskDefinition, Wake, monitor_schedule::When,
};

use crate::client::{Client, milliseconds};
use crate::wait::{SOON, eventually};

/// Lets a deployment's monitors fire as often as these tests want.
pub const QUICK: &str = "--min-monitor-interval=100ms";

/// A schedule that fires so often and wakes for everything.
pub fn every(interval_ms: i64) -> MonitorSchedule {
    MonitorSchedule {
        when: Some(When::Interval(milliseconds(interval_ms))),
        wake_on: MonitorWake::Always.into(),
        overlap: MonitorOverlap::Skip.into(),
        ..MonitorSchedule::default()
    }
}

/// A monitor of what `task` does.
pub fn monitor(task: TaskDefinition, schedule: MonitorSchedule) -> TaskDefinition {
    TaskDefinition {
        schedule: Some(schedule),
        ..task
    }
}

impl Client {
    /// The live monitors of a session.
    pub async fn monitors(&mut self, session: &str) -> Vec<Monitor> {
        let request = ListMonitorsRequest {
            session_id: session.to_owned(),
            ..ListMonitorsRequest::default()
        };
        let answer = self.admin.list_monitors(request).await;
        let answer = answer.unwrap_or_else(|status| panic!("no monitors: {status:?}"));
        answer.into_inner().monitors
    }

    /// Waits until the one monitor of a session stands as `is_there` wants it.
    pub async fn monitor_reached(
        &mut self,
        session: &str,
        is_there: impl Fn(&Monitor) -> bool,
    ) -> Monitor {
        eventually("the monitor to get there", SOON, async || {
            let monitor = self.monitors(session).await.pop();
            monitor.filter(|monitor| is_there(monitor))
        })
        .await
    }

    /// The firings of a monitor that are kept, oldest first.
    pub async fn firings(&mut self, monitor: &str) -> Vec<SessionTask> {
        let request = ListTasksRequest {
            parent_task_id: monitor.to_owned(),
            page_size: 500,
            ..ListTasksRequest::default()
        };
        let answer = self.tasks.list_tasks(request).await;
        let answer = answer.unwrap_or_else(|status| panic!("no list: {status:?}"));
        let mut tasks = answer.into_inner().tasks;
        tasks.reverse();
        tasks
    }

    /// Takes and acknowledges the wakes of a session that are there, oldest first.
    pub async fn drain_wakes(&mut self, session: &str) -> Vec<Wake> {
        let mut taken = Vec::new();
        let mut ack_ids = Vec::new();
        loop {
            let request = TakeWakesRequest {
                session_ids: vec![session.to_owned()],
                consumer: "test".to_owned(),
                ack_ids,
                max_wakes: 500,
                ..TakeWakesRequest::default()
            };
            let answer = self.tasks.take_wakes(request).await;
            let answer = answer.unwrap_or_else(|status| panic!("no wakes: {status:?}"));
            let wakes = answer.into_inner().wakes;
            if wakes.is_empty() {
                return taken;
            }
            ack_ids = wakes.iter().map(|wake| wake.id).collect();
            taken.extend(wakes);
        }
    }
}
