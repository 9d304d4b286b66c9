//! The one table: what each method of each service needs, and what of its calls is written down. A method that is not
//! here is refused; a test walks the descriptors of all services and fails on one that is missing.

use super::role::Right;

/// What a method needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its path, such as `/taskyard.v1.SessionTaskService/GetTask`.
    pub path: &'static str,
    /// Who may call it.
    pub access: Access,
    /// Whether what runs inside a task may call it, through its worker and under its lease.
    pub inside: Inside,
    /// Which of its calls go into the audit log. Denials always do.
    pub audit: Audit,
    /// What of the request says whose things it is about.
    pub scope: Scope,
}

/// Who may call a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody, known or not.
    Open,
    /// Who has the right.
    Right(Right),
}

/// Whether what runs inside a task may call a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inside {
    /// Never.
    Never,
    /// As everybody may who has the right; there it is confined to what is below its task.
    Also,
    /// Nobody else may.
    Only,
}

/// Which calls go into the audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audit {
    /// None that is let through.
    Denials,
    /// All of them.
    Calls,
    /// The first one for each boot of a worker, which the service itself writes down.
    Boots,
}

/// Which fields say whose things a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// None: it is about no tenant's things.
    Nothing,
    /// None: it is about everybody's, so only a credential that reaches all may call.
    Everybody,
    /// `namespace`.
    Namespace,
    /// `namespace` and `session_id`, which may be left out where all sessions are meant.
    MaybeSession,
    /// `namespace` and `session_id`.
    Session,
    /// `namespace`, `session_id` and `task`; the session may be left out where the task is named by its whole id.
    Task,
    /// `namespace` and each of `sessions`.
    Sessions,
    /// `namespace` and `session_id` of the first message's `header`.
    Header,
    /// A lease: its holder's.
    Lease,
    /// The hello of a worker: its pool.
    Hello,
}

impl Rule {
    /// Whether a call of it sends a stream of messages; else it sends one.
    #[must_use]
    pub fn streams_in(&self) -> bool {
        matches!(
            self.path,
            "/taskyard.v1.SessionFileService/Write"
                | "/taskyard.v1.TaskAgentService/PublishArtifact"
                | "/taskyard.v1.WorkerService/Attach"
                | "/taskyard.v1.WorkerService/PushOutput"
                | "/taskyard.v1.WorkerService/WriteFile"
        ) || self.path.ends_with("/ServerReflectionInfo")
    }
}

const fn rule(
    path: &'static str,
    access: Access,
    inside: Inside,
    audit: Audit,
    scope: Scope,
) -> Rule {
    Rule {
        path,
        access,
        inside,
        audit,
        scope,
    }
}

const READ: Access = Access::Right(Right::Read);
const CHANGE: Access = Access::Right(Right::Change);
const WORK: Access = Access::Right(Right::Work);
const ADMINISTER: Access = Access::Right(Right::Administer);

use Audit::{Boots, Calls, Denials};
use Inside::{Also, Never, Only};
use Scope::{
    Everybody, Header, Hello, Lease, MaybeSession, Namespace, Nothing, Session, Sessions, Task,
};

/// All methods of all services.
#[rustfmt::skip]
pub const RULES: &[Rule] = &[
    rule("/grpc.health.v1.Health/Check", Access::Open, Never, Denials, Nothing),
    rule("/grpc.health.v1.Health/List", Access::Open, Never, Denials, Nothing),
    rule("/grpc.health.v1.Health/Watch", Access::Open, Never, Denials, Nothing),
    rule("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Access::Right(Right::BeKnown), Never, Denials, Nothing),
    rule("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Access::Right(Right::BeKnown), Never, Denials, Nothing),

    rule("/taskyard.v1.SessionTaskService/CreateTask", CHANGE, Also, Calls, Session),
    rule("/taskyard.v1.SessionTaskService/BatchCreateTasks", CHANGE, Also, Calls, Session),
    rule("/taskyard.v1.SessionTaskService/GetTask", READ, Also, Denials, Task),
    rule("/taskyard.v1.SessionTaskService/ListTasks", READ, Also, Denials, MaybeSession),
    rule("/taskyard.v1.SessionTaskService/UpdateTask", CHANGE, Also, Calls, Task),
    rule("/taskyard.v1.SessionTaskService/CancelTask", CHANGE, Also, Calls, Task),
    rule("/taskyard.v1.SessionTaskService/CancelTasks", CHANGE, Also, Calls, Session),
    rule("/taskyard.v1.SessionTaskService/RetryTask", CHANGE, Also, Calls, Task),
    rule("/taskyard.v1.SessionTaskService/CloneTask", CHANGE, Also, Calls, Task),
    rule("/taskyard.v1.SessionTaskService/Watch", READ, Also, Denials, Sessions),
    rule("/taskyard.v1.SessionTaskService/WaitTasks", READ, Also, Denials, Task),
    rule("/taskyard.v1.SessionTaskService/TailOutput", READ, Also, Denials, Task),
    rule("/taskyard.v1.SessionTaskService/ReadOutput", READ, Also, Denials, Task),
    rule("/taskyard.v1.SessionTaskService/WriteInput", CHANGE, Also, Calls, Task),
    rule("/taskyard.v1.SessionTaskService/SignalTask", CHANGE, Also, Calls, Task),
    rule("/taskyard.v1.SessionTaskService/ResizeTerminal", CHANGE, Also, Denials, Task),
    rule("/taskyard.v1.SessionTaskService/GetUsage", READ, Also, Denials, Task),
    rule("/taskyard.v1.SessionTaskService/PostMessage", CHANGE, Also, Calls, Task),
    rule("/taskyard.v1.SessionTaskService/ListMessages", READ, Also, Denials, Task),
    rule("/taskyard.v1.SessionTaskService/AnswerTask", Access::Right(Right::Answer), Also, Calls, Task),
    rule("/taskyard.v1.SessionTaskService/TakeWakes", CHANGE, Also, Denials, Sessions),
    rule("/taskyard.v1.SessionTaskService/DeleteSession", CHANGE, Also, Calls, Session),

    rule("/taskyard.v1.SessionFileService/Write", CHANGE, Never, Calls, Header),
    rule("/taskyard.v1.SessionFileService/Read", READ, Never, Denials, Session),
    rule("/taskyard.v1.SessionFileService/Stat", READ, Never, Denials, Session),
    rule("/taskyard.v1.SessionFileService/List", READ, Never, Denials, Session),
    rule("/taskyard.v1.SessionFileService/Delete", CHANGE, Never, Calls, Session),
    rule("/taskyard.v1.SessionFileService/Grep", READ, Never, Denials, Session),

    rule("/taskyard.v1.TaskAgentService/GetSelf", WORK, Only, Denials, Lease),
    rule("/taskyard.v1.TaskAgentService/ReportProgress", WORK, Only, Denials, Lease),
    rule("/taskyard.v1.TaskAgentService/Ask", WORK, Only, Calls, Lease),
    rule("/taskyard.v1.TaskAgentService/Post", WORK, Only, Calls, Lease),
    rule("/taskyard.v1.TaskAgentService/ReceiveMessages", WORK, Only, Denials, Lease),
    rule("/taskyard.v1.TaskAgentService/PublishArtifact", WORK, Only, Calls, Lease),
    rule("/taskyard.v1.TaskAgentService/SetResult", WORK, Only, Calls, Lease),
    rule("/taskyard.v1.TaskAgentService/ReportUsage", WORK, Only, Denials, Lease),

    rule("/taskyard.v1.WorkerService/Attach", WORK, Never, Calls, Hello),
    rule("/taskyard.v1.WorkerService/AcquireLeases", WORK, Never, Boots, Hello),
    rule("/taskyard.v1.WorkerService/Report", WORK, Never, Denials, Lease),
    rule("/taskyard.v1.WorkerService/PushOutput", WORK, Never, Denials, Lease),
    rule("/taskyard.v1.WorkerService/GetLeaseSpec", WORK, Never, Denials, Lease),
    rule("/taskyard.v1.WorkerService/GetLeaseSecrets", WORK, Never, Calls, Lease),
    rule("/taskyard.v1.WorkerService/ReadInput", WORK, Never, Denials, Lease),
    rule("/taskyard.v1.WorkerService/ReadTerminalSize", WORK, Never, Denials, Lease),
    rule("/taskyard.v1.WorkerService/ConfirmSignal", WORK, Never, Denials, Lease),
    rule("/taskyard.v1.WorkerService/ReadFile", WORK, Never, Denials, Lease),
    rule("/taskyard.v1.WorkerService/ListFiles", WORK, Never, Denials, Lease),
    rule("/taskyard.v1.WorkerService/WriteFile", WORK, Never, Calls, Lease),

    rule("/taskyard.v1.WebhookService/CreateWebhook", ADMINISTER, Never, Calls, MaybeSession),
    rule("/taskyard.v1.WebhookService/ListWebhooks", ADMINISTER, Never, Denials, MaybeSession),
    rule("/taskyard.v1.WebhookService/DeleteWebhook", ADMINISTER, Never, Calls, Namespace),
    rule("/taskyard.v1.WebhookService/ListWebhookDeliveries", ADMINISTER, Never, Denials, Namespace),
    rule("/taskyard.v1.WebhookService/RedeliverWebhook", ADMINISTER, Never, Calls, Namespace),

    rule("/taskyard.v1.AdminService/ListWorkers", READ, Never, Denials, Everybody),
    rule("/taskyard.v1.AdminService/ListSessions", READ, Never, Denials, Namespace),
    rule("/taskyard.v1.AdminService/ListQueues", READ, Never, Denials, Everybody),
    rule("/taskyard.v1.AdminService/ListMonitors", READ, Never, Denials, MaybeSession),
    rule("/taskyard.v1.AdminService/SetRetention", ADMINISTER, Never, Calls, MaybeSession),
    rule("/taskyard.v1.AdminService/GetRetention", READ, Never, Denials, MaybeSession),
    rule("/taskyard.v1.AdminService/RunRetention", ADMINISTER, Never, Calls, MaybeSession),
    rule("/taskyard.v1.AdminService/ListAuditEvents", ADMINISTER, Never, Denials, MaybeSession),
    rule("/taskyard.v1.AdminService/GetLogFilter", ADMINISTER, Never, Denials, Everybody),
    rule("/taskyard.v1.AdminService/SetLogFilter", ADMINISTER, Never, Calls, Everybody),

    rule("/externalscaler.ExternalScaler/IsActive", READ, Never, Denials, Everybody),
    rule("/externalscaler.ExternalScaler/StreamIsActive", READ, Never, Denials, Everybody),
    rule("/externalscaler.ExternalScaler/GetMetricSpec", READ, Never, Denials, Everybody),
    rule("/externalscaler.ExternalScaler/GetMetrics", READ, Never, Denials, Everybody),
];

/// The rule of a method; none: there is no such method, and so nobody may call it.
#[must_use]
pub fn find(path: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;
    use prost_types::FileDescriptorSet;
    use std::collections::BTreeSet;

    fn served() -> BTreeSet<String> {
        let mut served = BTreeSet::new();
        for encoded in [
            taskyard_proto::FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ] {
            let set = FileDescriptorSet::decode(encoded).expect("descriptors");
            for file in set.file {
                for service in &file.service {
                    for method in &service.method {
                        served.insert(format!(
                            "/{}.{}/{}",
                            file.package(),
                            service.name(),
                            method.name()
                        ));
                    }
                }
            }
        }
        served
    }

    #[test]
    fn every_method_has_exactly_one_rule() {
        let ruled: BTreeSet<String> = RULES.iter().map(|rule| rule.path.to_owned()).collect();
        assert_eq!(ruled.len(), RULES.len(), "a method has two rules");
        let served = served();
        let missing: Vec<_> = served.difference(&ruled).collect();
        assert!(missing.is_empty(), "methods without a rule: {missing:?}");
        let left: Vec<_> = ruled
            .difference(&served)
            .filter(|path| !path.starts_with("/grpc.health.v1.Health/List"))
            .collect();
        assert!(left.is_empty(), "rules without a method: {left:?}");
    }

    #[test]
    fn a_request_has_the_fields_that_its_rule_names() {
        let set =
            FileDescriptorSet::decode(taskyard_proto::FILE_DESCRIPTOR_SET).expect("descriptors");
        let fields_of = |type_name: &str| -> BTreeSet<String> {
            set.file
                .iter()
                .flat_map(|file| {
                    file.message_type.iter().map(move |message| {
                        (format!(".{}.{}", file.package(), message.name()), message)
                    })
                })
                .find(|(name, _)| name == type_name)
                .map(|(_, message)| {
                    message
                        .field
                        .iter()
                        .map(|field| field.name().to_owned())
                        .collect()
                })
                .unwrap_or_default()
        };
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    let rule = find(&path).expect("a rule");
                    assert_eq!(rule.streams_in(), method.client_streaming(), "{path}");
                    let needed: &[&str] = match rule.scope {
                        Nothing | Everybody | Hello | Lease => &[],
                        Namespace | Sessions => &["namespace"],
                        Session | MaybeSession | Task => &["namespace", "session_id"],
                        Header => &["header"],
                    };
                    let fields = fields_of(method.input_type());
                    for field in needed {
                        assert!(fields.contains(*field), "{path} has no {field}");
                    }
                    // nothing that could be another tenant's is left without a scope; KEDA's namespace is Kubernetes' own
                    if fields.contains("namespace") && file.package() != "externalscaler" {
                        assert!(
                            !matches!(rule.scope, Nothing | Everybody | Hello | Lease),
                            "{path} names a namespace"
                        );
                    }
                }
            }
        }
    }
}
