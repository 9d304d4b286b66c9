-- The whole store of a control plane: sessions, their tasks, logs, output and files; workers and their leases.
--
-- A task lies in three tables. `task` is written once, at its creation. `task_live` exists exactly while the task is
-- not terminal; it is narrow, it is the task's lock, and one function writes its state. `task_end` is written at the
-- end. The view `task_record` reads them as one. There are no foreign keys on the hot path: they would lock the
-- session's row for every insert. Times are `clock_timestamp()`, read by the statement that takes the lock.
--
-- Nothing indexes a lease or heartbeat time, so that renewals stay HOT updates.

-- Tells one store from another, beside the cluster's own identity: a restored or copied store gets a new one.
create table store_identity (
    only_row boolean primary key default true check (only_row),
    id uuid not null default gen_random_uuid()
);
insert into store_identity default values;

create table namespace (
    id integer generated always as identity primary key,
    name text not null unique check (name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$')
);
insert into namespace (name) values ('default');

create table session (
    uid bigint generated always as identity primary key,
    namespace_id integer not null references namespace,
    id text collate "C" not null check (octet_length(id) between 1 and 256),
    -- number of the next event in the log
    next_seq bigint not null default 1 check (next_seq >= 1),
    next_ordinal bigint not null default 1 check (next_ordinal >= 1),
    open_tasks bigint not null default 0 check (open_tasks >= 0),
    -- virtual time up to which the session's tasks have been placed
    fair_last double precision not null default 0,
    created_at timestamptz not null default clock_timestamp(),
    updated_at timestamptz
) with (fillfactor = 50);
create unique index session_by_id on session (namespace_id, id);

-- Virtual time of a queue at one priority: the fair key of the newest task that was offered from it.
create table queue_clock (
    queue text collate "C" not null,
    priority smallint not null,
    virtual_time double precision not null,
    primary key (queue, priority)
) with (fillfactor = 50);

-- What a worker must be to be offered a task; tasks with the same needs share a route, which leads the claim's index.
create table route (
    id integer generated always as identity primary key,
    queue text collate "C" not null,
    kind text collate "C" not null,
    executor text collate "C" not null,
    worker_labels jsonb not null check (jsonb_typeof(worker_labels) = 'object'),
    unique (queue, kind, executor, worker_labels)
);

create table task (
    id uuid primary key,
    namespace_id integer not null,
    session_uid bigint not null,
    ordinal bigint not null check (ordinal >= 1),
    route_id integer not null,
    name text collate "C",
    key text collate "C",
    display_name text not null,
    spec bytea not null,
    parent_id uuid,
    root_id uuid not null,
    group_name text collate "C",
    labels jsonb not null check (jsonb_typeof(labels) = 'object'),
    tags text[] not null,
    priority smallint not null check (priority between -100 and 100),
    not_before timestamptz,
    start_deadline timestamptz,
    timeout_ms bigint check (timeout_ms > 0),
    max_runs integer not null check (max_runs between 1 and 100),
    initial_backoff_ms bigint not null check (initial_backoff_ms >= 0),
    max_backoff_ms bigint not null check (max_backoff_ms >= 0),
    backoff_multiplier double precision not null check (backoff_multiplier >= 1),
    wake_policy smallint not null check (wake_policy between 1 and 3),
    retry_of uuid,
    -- SHA-256 of the definition, to tell a repeated create from another one under the same key
    fingerprint bytea not null check (octet_length(fingerprint) = 32),
    created_at timestamptz not null
);
create unique index task_by_ordinal on task (session_uid, ordinal);
create unique index task_by_key
    on task (session_uid, coalesce(parent_id, '00000000-0000-0000-0000-000000000000'), key) where key is not null;
create index task_by_namespace on task (namespace_id, id);
create index task_by_parent on task (parent_id, id) where parent_id is not null;

create table task_live (
    id uuid primary key,
    session_uid bigint not null,
    route_id integer not null,
    name text collate "C",
    priority smallint not null,
    fair_key double precision not null,
    -- 0 queued, 1 running, 2 awaiting input
    state smallint not null default 0 check (state between 0 and 2),
    -- 0 open, 1 not before `not_before`, 2 held
    gate smallint not null default 0 check (gate between 0 and 2),
    not_before timestamptz,
    start_deadline timestamptz,
    run integer not null default 0 check (run >= 0),
    attempt integer not null default 0,
    generation bigint not null default 1 check (generation >= 1),
    -- the lease: held exactly while `worker_session` is set; the rest stays behind it to recognise repeated reports
    epoch bigint not null default 0 check (epoch >= 0),
    lease_id uuid,
    item_no bigint not null default 0 check (item_no >= 0),
    worker_session bigint,
    attach_no bigint,
    offered_at timestamptz,
    lease_ms bigint not null check (lease_ms > 0),
    worker_name text,
    cancel_requested_at timestamptz,
    cancel_grace_ms bigint check (cancel_grace_ms >= 0),
    started_at timestamptz,
    updated_at timestamptz not null,
    state_detail text not null default '',
    summary text not null default '',
    progress bytea,
    progress_at timestamptz,
    content bytea,
    -- why the run before failed, and how its process ended
    error_kind text,
    error_message text,
    last_exit bytea,
    question_id uuid,
    question bytea,
    question_expires_at timestamptz,
    constraint attempts_cover_runs check (attempt >= run),
    constraint held_by_a_whole_lease check (worker_session is null or (lease_id is not null and epoch > 0)),
    constraint queued_is_offered_or_free check ((offered_at is not null) = (state = 0 and worker_session is not null)),
    constraint running_is_held check (state <> 1 or (worker_session is not null and run >= 1 and started_at is not null)),
    constraint asking_has_a_question check ((state = 2) = (question_id is not null)),
    constraint gates_are_for_the_unheld check (gate = 0 or (state = 0 and worker_session is null)),
    constraint a_timed_gate_has_its_time check (gate <> 1 or not_before is not null),
    constraint a_grace_needs_a_cancel check (cancel_grace_ms is null or cancel_requested_at is not null),
    constraint no_cancel_waits_in_the_queue check (state <> 0 or cancel_requested_at is null)
) with (
    fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 5000, autovacuum_vacuum_cost_delay = 0
);
create index task_live_claim on task_live (route_id, priority desc, fair_key, id)
    where state = 0 and gate = 0 and worker_session is null;
create unique index task_live_by_name on task_live (session_uid, name) where name is not null;
create index task_live_by_session on task_live (session_uid);
create index task_live_by_worker on task_live (worker_session) where worker_session is not null;
create index task_live_due on task_live (not_before) where gate = 1;
create index task_live_start_deadline on task_live (start_deadline)
    where start_deadline is not null and state = 0 and run = 0;

create table task_end (
    id uuid primary key,
    -- 3 succeeded, 4 failed, 5 canceled
    state smallint not null check (state between 3 and 5),
    run integer not null check (run >= 0),
    attempt integer not null,
    generation bigint not null check (generation >= 2),
    epoch bigint not null,
    lease_id uuid,
    item_no bigint not null,
    worker_name text,
    cancel_requested_at timestamptz,
    started_at timestamptz,
    finished_at timestamptz not null,
    updated_at timestamptz not null,
    state_detail text not null,
    summary text not null check (octet_length(summary) <= 200),
    progress bytea,
    content bytea,
    error_kind text,
    error_message text,
    error_retryable boolean,
    run_end bytea,
    constraint attempts_cover_runs check (attempt >= run),
    constraint failed_has_an_error check ((state = 4) = (error_kind is not null)),
    constraint an_error_is_whole check ((error_kind is null) = (error_message is null) and (error_kind is null) = (error_retryable is null)),
    constraint canceled_was_asked_for check (state <> 5 or cancel_requested_at is not null),
    constraint runs_have_a_start check ((run = 0) or started_at is not null)
);

-- An attempt that ended without ending its task; the one that did is in `task_end`.
create table attempt (
    task_id uuid not null,
    attempt integer not null check (attempt >= 1),
    run integer not null check (run >= 1),
    epoch bigint not null check (epoch >= 1),
    lease_id uuid not null,
    item_no bigint not null check (item_no >= 0),
    worker_name text,
    ended_at timestamptz not null,
    -- null: the worker was lost or gave the work back
    error_kind text,
    error_message text,
    exit bytea,
    primary key (task_id, attempt)
);

-- One row for the events of one session in one commit; `body` is a LogPage.
create table session_log (
    session_uid bigint not null,
    last_seq bigint not null,
    first_seq bigint not null check (first_seq between 1 and last_seq),
    at timestamptz not null,
    body bytea not null,
    primary key (session_uid, last_seq)
);

-- One row for each stream of each run that wrote something.
create table output_stream (
    task_id uuid not null,
    run integer not null check (run >= 1),
    -- 1 stdout, 2 stderr
    stream smallint not null check (stream between 1 and 2),
    durable_end bigint not null check (durable_end >= 0),
    -- everything from here to durable_end is stored
    contiguous_from bigint not null check (contiguous_from between 0 and durable_end),
    -- what the worker says was written so far
    total bigint not null check (total >= durable_end),
    head_bytes bigint not null check (head_bytes >= 0),
    tail_bytes bigint not null check (tail_bytes >= 0),
    primary key (task_id, run, stream)
) with (fillfactor = 50);

create table output_chunk (
    task_id uuid not null,
    run integer not null,
    stream smallint not null,
    start_offset bigint not null check (start_offset >= 0),
    end_offset bigint not null check (end_offset > start_offset),
    -- order among the chunks of both streams
    chunk_order bigint not null,
    at timestamptz not null,
    data bytea not null check (octet_length(data) = end_offset - start_offset),
    primary key (task_id, run, stream, start_offset)
);
-- output rarely compresses well enough to pay for trying
alter table output_chunk alter column data set storage external;

create sequence file_version;
create table file (
    session_uid bigint not null,
    path text collate "C" not null check (path like '/%' and octet_length(path) between 2 and 1024),
    version bigint not null,
    size bigint not null check (size >= 0),
    modified_at timestamptz not null,
    primary key (session_uid, path)
);
create table file_chunk (
    session_uid bigint not null,
    path text collate "C" not null,
    version bigint not null,
    chunk_no integer not null check (chunk_no >= 0),
    data bytea not null,
    primary key (session_uid, path, version, chunk_no)
);
alter table file_chunk alter column data set storage external;

create table worker_session (
    id bigint generated always as identity primary key,
    name text collate "C" not null,
    -- one boot of the worker, and the state directory that its boots share
    instance_id uuid not null,
    state_id uuid not null,
    -- 1 active, 2 draining, 3 lost, 4 gone
    status smallint not null check (status between 1 and 4),
    -- the newest stream; an older one gets nothing
    attach_no bigint not null check (attach_no >= 1),
    slots integer not null check (slots between 1 and 10000),
    queues text[] not null,
    kinds text[] not null,
    executors text[] not null,
    labels jsonb not null check (jsonb_typeof(labels) = 'object'),
    version text not null,
    protocol integer not null,
    attached_at timestamptz not null,
    renewed_at timestamptz not null,
    ended_at timestamptz,
    constraint ended_when_over check ((status >= 3) = (ended_at is not null))
) with (fillfactor = 50);
create unique index worker_session_by_instance on worker_session (instance_id) where status <= 2;
create index worker_session_by_state on worker_session (state_id) where status <= 2;

-- Answers to calls that carried a request_id, for 24 hours.
create table request (
    namespace_id integer not null,
    -- 1 CreateTask, 2 RetryTask
    method smallint not null,
    request_id text collate "C" not null,
    fingerprint bytea not null check (octet_length(fingerprint) = 32),
    task_id uuid not null,
    at timestamptz not null,
    primary key (namespace_id, method, request_id)
);
create index request_by_age on request (at);

create view task_record as
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
    l.last_exit, l.question, e.run_end
from task t
join session s on s.uid = t.session_uid
join namespace n on n.id = t.namespace_id
join route r on r.id = t.route_id
left join task_live l on l.id = t.id
left join task_end e on e.id = t.id
left join worker_session w on w.id = l.worker_session;
