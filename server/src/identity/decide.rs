//! Who may call what: one pure function.

use super::{
    principal::Identity,
    role::{Right, Role},
    rules::{Access, Inside, Rule, Scope},
};

/// Why a call is denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The caller has to say who it is.
    Unknown,
    /// Another role is needed.
    Role(Role),
    /// The method is not for what runs inside a task.
    FromInside,
    /// The method is only for what runs inside a task.
    FromOutside,
    /// The method is about everybody's things, and the caller reaches some only.
    Narrow,
}

/// Whether a caller may call a method. `identity` is none for one who showed nothing; `has_lease` tells that the call is
/// made in the name of a lease.
///
/// # Errors
/// Why not.
pub fn decide(rule: &Rule, identity: Option<&Identity>, has_lease: bool) -> Result<(), Denied> {
    let right = match rule.access {
        Access::Open => return Ok(()),
        Access::Right(right) => right,
    };
    let identity = identity.ok_or(Denied::Unknown)?;
    // who speaks for a task needs nothing but to be its worker: the lease says what it may do
    let needed = if has_lease { Right::Work } else { right };
    let answers = right == Right::Answer && may_answer(identity, has_lease);
    if !answers && !identity.role.has(needed) {
        return Err(Denied::Role(needed.least_role()));
    }
    match (rule.inside, has_lease) {
        (Inside::Never, true) => return Err(Denied::FromInside),
        (Inside::Only, false) => return Err(Denied::FromOutside),
        (Inside::Never, false) | (Inside::Only, true) | (Inside::Also, _) => {}
    }
    if rule.scope == Scope::Everybody && !identity.reach.is_whole() {
        return Err(Denied::Narrow);
    }
    Ok(())
}

/// An approver may answer, whatever its role.
fn may_answer(identity: &Identity, has_lease: bool) -> bool {
    identity.is_approver && !has_lease
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{
        reach::{Patterns, Reach},
        rules::{RULES, find},
    };

    fn as_role(role: Role) -> Identity {
        Identity {
            role,
            is_approver: role.approves(),
            ..Identity::unknown(true)
        }
    }

    fn allowed(role: Role, method: &str, has_lease: bool) -> Result<(), Denied> {
        let rule = find(&format!("/taskyard.v1.{method}")).expect("a rule");
        decide(rule, Some(&as_role(role)), has_lease)
    }

    #[test]
    fn who_shows_nothing_gets_nothing_but_the_health() {
        for rule in RULES {
            let decided = decide(rule, None, false);
            let is_open = rule.path.starts_with("/grpc.health.");
            assert_eq!(decided.is_ok(), is_open, "{}", rule.path);
        }
    }

    #[test]
    fn each_role_has_its_methods_and_no_others() {
        let table = [
            ("SessionTaskService/GetTask", "viewer client approver admin"),
            ("SessionTaskService/CreateTask", "client admin"),
            ("SessionTaskService/AnswerTask", "client approver admin"),
            ("SessionTaskService/TakeWakes", "client admin"),
            ("SessionFileService/Read", "viewer client approver admin"),
            ("SessionFileService/Write", "client admin"),
            ("WorkerService/Attach", "worker admin"),
            ("WorkerService/GetLeaseSecrets", "worker admin"),
            ("AdminService/ListSessions", "viewer client approver admin"),
            ("AdminService/SetRetention", "admin"),
            ("AdminService/ListAuditEvents", "admin"),
            ("WebhookService/CreateWebhook", "admin"),
        ];
        for (method, roles) in table {
            for role in Role::ALL {
                let expected = roles.split(' ').any(|name| name == role.as_str());
                assert_eq!(
                    allowed(role, method, false).is_ok(),
                    expected,
                    "{role:?} {method}"
                );
            }
        }
    }

    #[test]
    fn a_lease_is_for_workers_and_for_what_a_task_may_say() {
        assert_eq!(
            allowed(Role::Client, "SessionTaskService/GetTask", true),
            Err(Denied::Role(Role::Worker))
        );
        assert_eq!(
            allowed(Role::Worker, "SessionTaskService/GetTask", false),
            Err(Denied::Role(Role::Viewer))
        );
        assert!(allowed(Role::Worker, "SessionTaskService/CreateTask", true).is_ok());
        assert!(allowed(Role::Worker, "TaskAgentService/Ask", true).is_ok());
        assert_eq!(
            allowed(Role::Worker, "TaskAgentService/Ask", false),
            Err(Denied::FromOutside)
        );
        for method in [
            "SessionFileService/Write",
            "AdminService/ListSessions",
            "WebhookService/CreateWebhook",
            "WorkerService/Attach",
        ] {
            assert_eq!(
                allowed(Role::Worker, method, true),
                Err(Denied::FromInside),
                "{method}"
            );
        }
    }

    #[test]
    fn what_is_about_everybody_needs_a_whole_reach() {
        let mut narrow = as_role(Role::Admin);
        narrow.reach = Reach {
            namespaces: Patterns::parse(vec!["a".to_owned()]).expect("patterns"),
            ..Reach::default()
        };
        let rule = find("/taskyard.v1.AdminService/ListWorkers").expect("a rule");
        assert_eq!(decide(rule, Some(&narrow), false), Err(Denied::Narrow));
        assert!(decide(rule, Some(&as_role(Role::Viewer)), false).is_ok());
    }

    #[test]
    fn the_capability_to_approve_lets_a_viewer_answer_and_nothing_else() {
        let mut viewer = as_role(Role::Viewer);
        viewer.is_approver = true;
        let answer = find("/taskyard.v1.SessionTaskService/AnswerTask").expect("a rule");
        assert!(decide(answer, Some(&viewer), false).is_ok());
        assert!(decide(answer, Some(&viewer), true).is_err());
        let create = find("/taskyard.v1.SessionTaskService/CreateTask").expect("a rule");
        assert!(decide(create, Some(&viewer), false).is_err());
    }
}
