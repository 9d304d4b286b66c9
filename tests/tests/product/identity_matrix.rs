//! Every method of every service, called with another tenant's names: by a credential of another namespace, and by one
//! of other sessions of the same namespace. The answer must be that for a name that nobody has, must show nothing of the
//! other tenant's, and must change nothing of it. The methods, and the places in their requests where something is named,
//! come from the descriptors, so none can be forgotten.

mod fields;
mod requests;
mod world;

use std::time::Duration;

use sqlx::{PgConnection, Row};
use taskyard_tests::deployment::Deployment;
use taskyard_tests::secured::{text, write_tokens};
use tonic::Code;

use fields::{Kind, Method, Value, methods, set};
use world::{Answer, Names, call, furnish};

/// What only the owner may read.
const MARK: &str = "for-its-owner-only";

/// Methods that are about everybody, and so for those who reach all only.
const FOR_WHOLE_REACH: &[&str] = &[
    "/taskyard.v1.AdminService/ListWorkers",
    "/taskyard.v1.AdminService/ListQueues",
    "/taskyard.v1.AdminService/GetLogFilter",
    "/taskyard.v1.AdminService/SetLogFilter",
    "/externalscaler.ExternalScaler/IsActive",
    "/externalscaler.ExternalScaler/StreamIsActive",
    "/externalscaler.ExternalScaler/GetMetricSpec",
    "/externalscaler.ExternalScaler/GetMetrics",
];

/// Lists what the caller reaches of a namespace, and so refuses nobody there.
const LISTS_OWN: &str = "/taskyard.v1.AdminService/ListSessions";

/// Methods whose request names nothing that a tenant has: what they are about is the worker's own.
const NAMES_NOTHING: &[&str] = &[
    "/taskyard.v1.WorkerService/Attach",
    "/taskyard.v1.WorkerService/AcquireLeases",
];

#[tokio::test]
async fn no_call_tells_or_changes_anything_of_another_tenant() {
    let folder = tempfile::tempdir().expect("a folder");
    let list = folder.path().join("auth.yaml");
    write_tokens(
        &list,
        &[
            ("owner", "role: admin, namespaces: [team-a]"),
            ("elsewhere", "role: admin, namespaces: [team-b]"),
            (
                "beside",
                "role: admin, namespaces: [team-a], sessions: ['mine-*']",
            ),
        ],
    );
    let deployment = Deployment::builder()
        .workers(Vec::new())
        .lease(Duration::from_secs(600))
        .server_env(&[("TASKYARD_AUTH_FILE", text(&list))])
        .start()
        .await;
    let client = deployment.client().await;
    let mut database = deployment.database().connect().await;
    let theirs = furnish(&client, "owner", "owner", "team-a", "of-owner", MARK).await;
    let methods = methods();
    let mut problems = Vec::new();
    for (token, whole, namespace, session) in [
        ("elsewhere", "elsewhere", "team-b", "mine-elsewhere"),
        ("beside", "owner", "team-a", "mine-beside"),
    ] {
        // of the same tenant, but for its namespace where that is the caller's own
        let nobodys = Names {
            namespace: if namespace == theirs.namespace {
                namespace.to_owned()
            } else {
                "team-0".to_owned()
            },
            ..Names::made_up(&theirs)
        };
        let own = furnish(&client, token, whole, namespace, session, "its-own").await;
        let before = everything_of(&mut database, &theirs).await;
        let mut tried = 0;
        for method in &methods {
            tried += 1;
            let intruder = Intruder {
                client: &client,
                token,
                own: &own,
                theirs: &theirs,
                nobodys: &nobodys,
            };
            intruder.try_method(method, &mut problems).await;
            let after = everything_of(&mut database, &theirs).await;
            if after != before {
                let changed = after
                    .iter()
                    .zip(&before)
                    .find(|(after, before)| after != before);
                panic!("{token} {}: {changed:#?}", method.path);
            }
        }
        assert_eq!(tried, methods.len());
    }
    assert!(
        problems.is_empty(),
        "{}:\n{}",
        problems.len(),
        problems.join("\n")
    );

    // the names are real: their owner gets there with each of them
    for method in in_gentle_order(&methods) {
        let messages = requests::about(&method.path, &theirs).unwrap_or_default();
        let lease = is_from_inside(method).then_some(&theirs.lease);
        let answer = call(&client, "owner", &method.path, lease, messages).await;
        let is_there = !matches!(answer.code, Code::NotFound | Code::Unauthenticated)
            && (answer.code != Code::PermissionDenied || answer.reason == "WHOLE_REACH_NEEDED")
            && answer.reason != "LEASE_LOST";
        assert!(is_there, "{} by its owner: {answer:?}", method.path);
    }
}

/// Somebody who names what it does not reach.
struct Intruder<'a> {
    client: &'a taskyard_tests::client::Client,
    token: &'a str,
    own: &'a Names,
    theirs: &'a Names,
    nobodys: &'a Names,
}

impl Intruder<'_> {
    async fn try_method(&self, method: &Method, problems: &mut Vec<String>) {
        let path = method.path.as_str();
        let about = |names: &Names| {
            requests::about(path, names).unwrap_or_else(|| {
                panic!("{path} is in no service that this test knows; say how it is called")
            })
        };
        if NAMES_NOTHING.contains(&path) {
            assert!(
                method.places.iter().all(|place| place.kind == Kind::Lease),
                "{path} names something"
            );
        }
        let inside = is_from_inside(method);
        // all that the request names is another's
        let lease = |names: &Names| inside.then(|| names.lease.clone());
        let theirs = self.ask(path, lease(self.theirs), about(self.theirs)).await;
        let nobodys = self
            .ask(path, lease(self.nobodys), about(self.nobodys))
            .await;
        let is_refused = if FOR_WHOLE_REACH.contains(&path) {
            theirs.reason == "WHOLE_REACH_NEEDED"
        } else if NAMES_NOTHING.contains(&path) || (path == LISTS_OWN && self.is_beside()) {
            theirs.code == Code::Ok
        } else {
            theirs.code == Code::NotFound
                || theirs.reason == "LEASE_LOST"
                || theirs.reason == "SESSION_NEEDED"
        };
        if !is_refused {
            problems.push(format!("{} {path}: let in: {theirs:?}", self.token));
        }
        self.compare(path, "all of it", &theirs, &nobodys, problems);
        // one name is another's, all others are the caller's own
        for place in &method.places {
            if place.kind == Kind::Namespace && self.is_beside() {
                continue;
            }
            let with = |names: &Names| {
                let mut messages = about(self.own);
                if let Some(first) = messages.first_mut() {
                    let value: Value = names.value(place.kind);
                    first.extend(set(&place.path, &value));
                }
                messages
            };
            let theirs = self.ask(path, lease(self.own), with(self.theirs)).await;
            let nobodys = self.ask(path, lease(self.own), with(self.nobodys)).await;
            self.look(path, &place.shown, &theirs, problems);
            match place.kind {
                Kind::Token => {}
                // they are of a namespace, so others of the same one are in the way of each other
                Kind::RequestId if self.is_beside() => {
                    let is_told =
                        theirs.code == nobodys.code || theirs.reason == "REQUEST_ID_CONFLICT";
                    assert!(is_told, "{path}: {theirs:?}");
                }
                _ => self.compare(path, &place.shown, &theirs, &nobodys, problems),
            }
        }
        // the call is made in the name of another's lease
        let theirs = self
            .ask(path, Some(self.theirs.lease.clone()), about(self.own))
            .await;
        let nobodys = self
            .ask(path, Some(self.nobodys.lease.clone()), about(self.own))
            .await;
        self.compare(path, "the lease of the call", &theirs, &nobodys, problems);
    }

    /// Whether the other one is of the same namespace.
    fn is_beside(&self) -> bool {
        self.own.namespace == self.theirs.namespace
    }

    async fn ask(
        &self,
        path: &str,
        lease: Option<taskyard_proto::v1::Lease>,
        messages: Vec<Vec<u8>>,
    ) -> Answer {
        call(self.client, self.token, path, lease.as_ref(), messages).await
    }

    fn compare(
        &self,
        path: &str,
        place: &str,
        theirs: &Answer,
        nobodys: &Answer,
        problems: &mut Vec<String>,
    ) {
        self.look(path, place, theirs, problems);
        let struck = |answer: &Answer| {
            self.nobodys
                .strike_from(&self.theirs.strike_from(&answer.text))
        };
        // a lease is a secret of 128 bits: nobody comes upon one, and who shows another's is told that it is lost, where
        // one that was never there is left to the verdicts of the call
        let is_lost = theirs.reason == "LEASE_LOST" && nobodys.code == Code::Ok;
        let is_same = is_lost
            || (theirs.code == nobodys.code
                && theirs.reason == nobodys.reason
                && struck(theirs) == struck(nobodys));
        if !is_same {
            problems.push(format!(
                "{} {path} with {place}: {:?} {} {:?} for theirs, {:?} {} {:?} for nobody's",
                self.token,
                theirs.code,
                theirs.reason,
                theirs.text,
                nobodys.code,
                nobodys.reason,
                nobodys.text
            ));
        }
    }

    /// No answer shows what is another's.
    fn look(&self, path: &str, place: &str, answer: &Answer, problems: &mut Vec<String>) {
        let shown = |bytes: &[u8]| {
            bytes
                .windows(MARK.len())
                .any(|part| part == MARK.as_bytes())
        };
        if shown(&answer.bytes) || answer.text.contains(MARK) {
            problems.push(format!("{} {path} with {place}: shows theirs", self.token));
        }
    }
}

fn is_from_inside(method: &Method) -> bool {
    method.path.starts_with("/taskyard.v1.TaskAgentService/")
}

/// What destroys comes last.
fn in_gentle_order(methods: &[Method]) -> Vec<&Method> {
    let rank = |method: &&Method| match method.path.rsplit('/').next() {
        Some("DeleteSession") => 3,
        Some("CancelTasks" | "AnswerTask") => 2,
        Some("CancelTask" | "Delete" | "DeleteWebhook" | "TakeWakes") => 1,
        Some(_) | None => 0,
    };
    let mut ordered: Vec<&Method> = methods.iter().collect();
    ordered.sort_by_key(rank);
    ordered
}

/// All rows that hang on a session, of whatever table. What a webhook's receiver is told is tried again and again, so
/// how often that was is left out.
async fn everything_of(database: &mut PgConnection, names: &Names) -> Vec<(String, String)> {
    let tables = sqlx::query(
        "select table_name::text, bool_or(column_name = 'session_uid'), bool_or(column_name = 'task_id')
         from information_schema.columns join information_schema.tables using (table_schema, table_name)
         where table_schema = current_schema() and table_type = 'BASE TABLE'
           and (column_name in ('session_uid', 'task_id') or table_name in ('session', 'task'))
         group by 1 order by 1",
    )
    .fetch_all(&mut *database)
    .await
    .expect("the tables");
    assert!(tables.len() > 10, "only {} tables", tables.len());
    let mut found = Vec::new();
    for table in tables {
        let (table, by_session, by_task): (String, bool, bool) =
            (table.get(0), table.get(1), table.get(2));
        let mine = "(select uid from session where id = $1 and namespace_id = (select id from namespace where name = $2))";
        let condition = match (table.as_str(), by_session, by_task) {
            ("session", _, _) => format!("t.uid in {mine}"),
            (_, true, _) => format!("t.session_uid in {mine}"),
            (_, false, true) => {
                format!("t.task_id in (select id from task where session_uid in {mine})")
            }
            (_, false, false) => continue,
        };
        let query = format!(
            "select coalesce(jsonb_agg(to_jsonb(t) - '{{attempts,tries_left,state,last_status,last_error,last_attempt_at,next_attempt_at}}'::text[] order by to_jsonb(t)::text), '[]')::text
             from {table} t where {condition}"
        );
        let rows: String = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
            .bind(&names.session)
            .bind(&names.namespace)
            .fetch_one(&mut *database)
            .await
            .unwrap_or_else(|error| panic!("{table}: {error}"));
        found.push((table, rows));
    }
    found
}
