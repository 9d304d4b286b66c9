-- Webhooks: URLs that are called for what happens to tasks, and what is to be delivered to them.

create table webhook (
    id uuid primary key,
    namespace_id integer not null,
    -- only for this session; null: for the whole namespace
    session_uid bigint,
    -- only for this task
    task_id uuid,
    url text not null check (octet_length(url) between 1 and 2048),
    -- key of the signature; null: none
    secret text check (octet_length(secret) between 1 and 256),
    -- a bit for each event: 1 terminal, 2 question, 4 message
    events smallint not null check (events between 1 and 7),
    created_at timestamptz not null default clock_timestamp(),
    constraint a_task_is_of_a_session check (task_id is null or session_uid is not null)
);
create index webhook_by_namespace on webhook (namespace_id, id);

-- One change for one webhook, written in the transaction that made the change.
create table webhook_delivery (
    id bigint generated always as identity primary key,
    webhook_id uuid not null,
    task_id uuid not null,
    -- the bit of the event
    event smallint not null check (event in (1, 2, 4)),
    -- what the receiver is told, as JSON, but for the delivery's id and the task's fixed fields
    body text not null,
    session_id text not null,
    display_name text not null,
    kind text not null,
    created_at timestamptz not null,
    -- 1 pending, 2 delivered, 3 failed
    state smallint not null default 1 check (state between 1 and 3),
    -- tries that were begun; also what the outcome of a try must name
    attempts integer not null default 0 check (attempts >= 0),
    -- tries that are left
    tries_left smallint not null check (tries_left >= 0),
    -- when it is tried next; while it is being tried: when that try counts as lost
    next_attempt_at timestamptz,
    last_status smallint not null default 0,
    last_error text not null default '',
    last_attempt_at timestamptz,
    constraint pending_is_tried_again check ((state = 1) = (next_attempt_at is not null))
) with (fillfactor = 80);
create index webhook_delivery_due on webhook_delivery (next_attempt_at) where state = 1;
create index webhook_delivery_due_by_webhook on webhook_delivery (webhook_id, next_attempt_at) where state = 1;
create index webhook_delivery_by_webhook on webhook_delivery (webhook_id, id);
create index webhook_delivery_by_age on webhook_delivery (created_at);
