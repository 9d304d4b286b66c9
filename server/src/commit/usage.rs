//! What is counted of the runs that end in a batch: each once, whatever becomes of its task.

use super::intent::FinishContent;
use crate::store::{
    Connection, StoreError, run_reports,
    task_row::TaskRow,
    usage::{self, ReportedDelta, RunRow, UsedDelta},
};
use std::collections::BTreeMap;
use taskyard_core::{
    id::{SessionUid, TaskId},
    task::{State, Task, ended_run},
};
use taskyard_proto::v1::Usage;

/// Most names of one run's report that are summed, and the longest.
const MAX_NAMES: usize = 64;
const MAX_NAME_BYTES: usize = 128;
/// Greatest number that is summed.
const MAX_NUMBER: f64 = 1e18;
/// Most that one run is believed to have used: 30 years of processor time, and 1 EiB.
const MAX_CPU_MS: i64 = 1_000_000_000_000;
const MAX_RSS_BYTES: i64 = 1 << 60;

/// The runs that ended in a batch.
#[derive(Default)]
pub(super) struct RunUsages(Vec<Ended>);

/// A run that ended.
struct Ended {
    session: SessionUid,
    row: RunRow,
    numbers: BTreeMap<String, String>,
    /// Nobody reported its end.
    is_lost: bool,
    /// The end row of its task, a root, tells of it.
    is_in_end_row: bool,
}

impl RunUsages {
    /// Takes note of a change, if it ended a run. `after` is the row as it is to be written.
    pub(super) fn note(&mut self, before: &Task, after: &TaskRow, finish: Option<&FinishContent>) {
        let Some(run) = ended_run(before, &after.task) else {
            return;
        };
        let used = finish.and_then(|content| content.usage.clone());
        let (row, numbers) = counted(after.root, &after.task, run, &used.unwrap_or_default());
        let ends_root = after.root == after.task.id
            && matches!(after.task.state, State::Terminal(_))
            && after.task.run == run;
        self.0.push(Ended {
            session: after.session,
            row,
            numbers,
            is_lost: finish.is_none(),
            is_in_end_row: ends_root && finish.is_some(),
        });
    }

    /// Writes the runs that no end row tells of. What the work of a lost run had reported counts, too.
    pub(super) async fn write_runs(&mut self, db: &mut Connection) -> Result<(), StoreError> {
        let lost: Vec<_> = self
            .0
            .iter()
            .filter(|ended| ended.is_lost)
            .map(|ended| (ended.row.task, ended.row.run))
            .collect();
        if !lost.is_empty() {
            for (task, run, json) in run_reports::read_usages(&mut *db, &lost).await? {
                let numbers = numbers(&json);
                for ended in &mut self.0 {
                    if ended.is_lost && (ended.row.task, ended.row.run) == (task, run) {
                        ended.row.reported = as_json(&numbers);
                        ended.numbers.clone_from(&numbers);
                    }
                }
            }
        }
        let rows: Vec<RunRow> = self
            .0
            .iter()
            .filter(|ended| !ended.is_in_end_row)
            .map(|ended| ended.row.clone())
            .collect();
        if rows.is_empty() {
            return Ok(());
        }
        usage::insert_runs(db, &rows).await
    }

    /// What the batch adds to the counters of a session.
    pub(super) fn of_session(&self, session: SessionUid) -> UsedDelta {
        let mut delta = UsedDelta::default();
        for ended in self.0.iter().filter(|ended| ended.session == session) {
            delta.tasks += i64::from(ended.row.run == 1);
            delta.runs += 1;
            delta.cpu_ms += ended.row.cpu_ms;
            delta.max_rss_bytes = delta.max_rss_bytes.max(ended.row.max_rss_bytes);
        }
        delta
    }

    /// Adds what was reported to the sums of the sessions, which are locked.
    pub(super) async fn write_reported(&self, db: &mut Connection) -> Result<(), StoreError> {
        let deltas: Vec<ReportedDelta> = self
            .0
            .iter()
            .flat_map(|ended| {
                ended.numbers.iter().map(|(name, number)| ReportedDelta {
                    session: ended.session,
                    name: name.clone(),
                    number: number.clone(),
                })
            })
            .collect();
        if deltas.is_empty() {
            return Ok(());
        }
        usage::add_reported(db, &deltas).await
    }
}

/// A run of a root as it is counted.
#[must_use]
pub fn counted_run(root: TaskId, run: u32, used: &Usage) -> RunRow {
    RunRow {
        root,
        task: root,
        run,
        cpu_ms: used.cpu_ms.clamp(0, MAX_CPU_MS),
        max_rss_bytes: used.max_rss_bytes.clamp(0, MAX_RSS_BYTES),
        reported: as_json(&numbers(&used.reported_json)),
    }
}

fn counted(
    root: TaskId,
    task: &Task,
    run: u32,
    used: &Usage,
) -> (RunRow, BTreeMap<String, String>) {
    let row = RunRow {
        task: task.id,
        ..counted_run(root, run, used)
    };
    (row, numbers(&used.reported_json))
}

/// The numbers at the top level of a report, in decimal; of more names than are summed the first ones by name.
fn numbers(json: &str) -> BTreeMap<String, String> {
    type Members = BTreeMap<String, serde_json::Value>;
    if json.is_empty() {
        return BTreeMap::new();
    }
    serde_json::from_str::<Members>(json)
        .unwrap_or_default()
        .into_iter()
        .filter_map(|(name, value)| {
            let number = value.as_number()?;
            let is_summed = number.as_f64().is_some_and(|size| size.abs() <= MAX_NUMBER)
                && name.len() <= MAX_NAME_BYTES
                && !name.contains('\0');
            is_summed.then(|| (name, number.to_string()))
        })
        .take(MAX_NAMES)
        .collect()
}

/// The same as a JSON object; none of none.
fn as_json(numbers: &BTreeMap<String, String>) -> Option<String> {
    if numbers.is_empty() {
        return None;
    }
    let members: Vec<String> = numbers
        .iter()
        .map(|(name, number)| format!("{}:{number}", serde_json::Value::from(name.as_str())))
        .collect();
    Some(format!("{{{}}}", members.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_are_summed_and_not_without_end() {
        let json = r#"{"tokens": 12, "cost": 0.1, "model": "x", "nested": {"a": 1}, "none": null,
            "huge": 1e300, "tiny": -2.5e-7, "a\"b": 3, "nul\u0000": 1}"#;
        let found = numbers(json);
        let expected = [
            ("a\"b", "3"),
            ("cost", "0.1"),
            ("tiny", "-2.5e-7"),
            ("tokens", "12"),
        ];
        let expected = expected.map(|(name, number)| (name.to_owned(), number.to_owned()));
        assert_eq!(found, BTreeMap::from(expected));
        let rendered = as_json(&found).unwrap_or_default();
        assert_eq!(
            rendered,
            r#"{"a\"b":3,"cost":0.1,"tiny":-2.5e-7,"tokens":12}"#
        );
        for nothing in ["", "[]", "nonsense", "{}", r#"{"a": "1"}"#] {
            assert_eq!(as_json(&numbers(nothing)), None, "{nothing}");
        }
        let long = "x".repeat(MAX_NAME_BYTES + 1);
        assert!(numbers(&format!(r#"{{"{long}": 1}}"#)).is_empty());
        let many: Vec<String> = (0..100).map(|n| format!(r#""k{n:03}":{n}"#)).collect();
        let many = numbers(&format!("{{{}}}", many.join(",")));
        assert_eq!(many.len(), MAX_NAMES);
        assert!(many.contains_key("k000") && !many.contains_key("k064"));
    }

    #[test]
    fn no_run_is_believed_to_have_used_everything() {
        let used = Usage {
            cpu_ms: i64::MAX,
            max_rss_bytes: -1,
            reported_json: String::new(),
        };
        let row = counted_run(TaskId(1), 1, &used);
        assert_eq!(
            (row.cpu_ms, row.max_rss_bytes, row.reported),
            (MAX_CPU_MS, 0, None)
        );
    }
}
