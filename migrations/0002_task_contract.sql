-- The thread between a task and its owner, questions, wakes, what the work itself reports, and what keeps a tree of
-- tasks within its bounds.

alter table task
    -- 0 for a task without a parent
    add column depth smallint not null default 0 check (depth >= 0),
    add column group_wake smallint not null default 1 check (group_wake between 1 and 3),
    -- whether the spec holds a schema for the result, so that most ends need not read it
    add column has_result_schema boolean not null default false;

alter table task_live
    add column group_name text collate "C",
    -- number of the newest message of the thread
    add column messages bigint not null default 0 check (messages >= 0),
    -- up to where the inbound messages were handed to the work, and the run that got them
    add column delivered bigint not null default 0 check (delivered between 0 and messages),
    add column delivered_run integer not null default 0 check (delivered_run >= 0);
create index task_live_by_group on task_live (session_uid, group_name) where group_name is not null;
create index task_live_by_question_expiry on task_live (question_expires_at) where question_expires_at is not null;

create table message (
    task_id uuid not null,
    number bigint not null check (number >= 1),
    id uuid not null,
    -- 1 to the work, 2 to its owner
    direction smallint not null check (direction between 1 and 2),
    -- MessageBody
    body bytea not null,
    in_reply_to text,
    -- 0 for a message to the work
    run integer not null check (run >= 0),
    -- the poster's own name for it, by which a repeated post is recognised
    request_id text collate "C" check (octet_length(request_id) between 1 and 128),
    created_at timestamptz not null,
    primary key (task_id, number)
);
create unique index message_by_request on message (task_id, direction, request_id) where request_id is not null;
create index message_by_id on message (task_id, id);

-- Every question that a task asked. The pending one is also on the live row, which decides.
create table question (
    id uuid primary key,
    task_id uuid not null,
    key text collate "C" not null check (octet_length(key) between 1 and 128),
    -- InputRequest
    body bytea not null,
    run integer not null check (run >= 1),
    -- 1 pending, 2 answered, 3 expired; a task that has ended leaves its question pending
    status smallint not null check (status between 1 and 3),
    answer_number bigint,
    constraint answered_by_a_message check ((status = 2) = (answer_number is not null))
);
create index question_by_key on question (task_id, key, id);

-- What the work itself said of one run before its end: its result, and what it used.
create table run_report (
    task_id uuid not null,
    run integer not null check (run >= 1),
    output_json text,
    usage_json text,
    primary key (task_id, run)
);

-- Reasons to wake an owner that nobody has acknowledged yet.
create table wake (
    id bigint generated always as identity primary key,
    namespace_id integer not null,
    session_uid bigint not null,
    task_id uuid not null,
    -- Wake
    body bytea not null,
    created_at timestamptz not null,
    consumer text,
    leased_until timestamptz,
    deliveries integer not null default 0 check (deliveries >= 0),
    constraint leased_to_somebody check ((consumer is null) = (leased_until is null))
) with (fillfactor = 70);
create index wake_by_namespace on wake (namespace_id, id);
create index wake_by_session on wake (session_uid, id);
