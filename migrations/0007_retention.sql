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
