-- Secrets of tasks. What reads show of them is written once with the task; values are apart, encrypted, and go in the
-- transaction that ends the task.

alter table task
    -- SecretReferences: names and where they come from, never a value; null: it has none
    add column secrets bytea;

-- The value of a secret of a task that has not ended. XChaCha20-Poly1305, bound to namespace, task and name.
create table task_secret (
    task_id uuid not null,
    name text collate "C" not null check (octet_length(name) between 1 and 128),
    -- which of the servers' keys; the first bytes of its SHA-256
    key_id bytea not null check (octet_length(key_id) = 8),
    nonce bytea not null check (octet_length(nonce) = 24),
    sealed bytea not null check (octet_length(sealed) > 16),
    primary key (task_id, name)
);

-- As before, with what is known of a task's secrets.
create or replace view task_record as
select
    t.id, t.namespace_id, n.name as namespace, t.session_uid, s.id as session_id, t.ordinal, t.name, t.key,
    r.kind, t.display_name, t.spec, t.parent_id, t.root_id, t.group_name, t.labels::text as labels, t.tags,
    r.queue, r.executor, t.priority, t.start_deadline, t.timeout_ms, t.max_runs, t.initial_backoff_ms,
    t.max_backoff_ms, t.backoff_multiplier, t.wake_policy, t.retry_of, t.created_at,
    coalesce(l.state, e.state) as state,
    coalesce(l.not_before, t.not_before) as not_before,
    coalesce(l.gate = 2, false) as hold,
    coalesce(l.run, e.run) as run,
    coalesce(l.attempt, e.attempt) as attempt,
    coalesce(l.generation, e.generation) as generation,
    coalesce(l.worker_name, e.worker_name) as worker_name,
    w.renewed_at as heartbeat_at,
    coalesce(l.cancel_requested_at, e.cancel_requested_at) as cancel_requested_at,
    coalesce(l.started_at, e.started_at) as started_at,
    e.finished_at,
    coalesce(l.updated_at, e.updated_at) as updated_at,
    coalesce(l.state_detail, e.state_detail) as state_detail,
    coalesce(l.summary, e.summary) as summary,
    coalesce(l.progress, e.progress) as progress,
    coalesce(l.content, e.content) as content,
    coalesce(l.error_kind, e.error_kind) as error_kind,
    coalesce(l.error_message, e.error_message) as error_message,
    coalesce(e.error_retryable, l.error_kind is not null) as error_retryable,
    l.last_exit, l.question, e.run_end, t.group_wake, t.secrets
from task t
join session s on s.uid = t.session_uid
join namespace n on n.id = t.namespace_id
join route r on r.id = t.route_id
left join task_live l on l.id = t.id
left join task_end e on e.id = t.id
left join worker_session w on w.id = l.worker_session
where s.deleted_at is null;
