-- Deleting: sessions as a whole, and ended tasks by age, number and size.

-- Set when the session is deleted: its id is free again from then on, its tasks are being canceled, and everything of
-- it is removed in steps, this row last.
alter table session add column deleted_at timestamptz;
drop index session_by_id;
create unique index session_by_id on session (namespace_id, id) where deleted_at is null;
create index session_to_remove on session (uid) where deleted_at is not null;

-- How long and how much of what has ended is kept; null: no limit.
create table retention (
    namespace_id integer not null,
    -- null: for every session of the namespace that has no row of its own
    session_uid bigint,
    ended_task_ttl_ms bigint check (ended_task_ttl_ms > 0),
    max_ended_tasks bigint check (max_ended_tasks >= 0),
    max_ended_bytes bigint check (max_ended_bytes >= 0),
    updated_at timestamptz not null default clock_timestamp()
);
create unique index retention_by_scope on retention (namespace_id, coalesce(session_uid, 0));

create index task_end_by_age on task_end (finished_at);

-- As before, with how a task wakes its group; and nobody reads a task of a session that is being deleted.
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
    l.last_exit, l.question, e.run_end, t.group_wake
from task t
join session s on s.uid = t.session_uid
join namespace n on n.id = t.namespace_id
join route r on r.id = t.route_id
left join task_live l on l.id = t.id
left join task_end e on e.id = t.id
left join worker_session w on w.id = l.worker_session
where s.deleted_at is null;
