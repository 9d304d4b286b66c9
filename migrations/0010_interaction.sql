-- Live standard input and signals: what clients say to a running process, until its worker has taken it.

-- How far the input of a run with `stdin_live` is. It goes with the run.
create table task_input (
    task_id uuid not null,
    run integer not null check (run >= 1),
    -- bytes that clients brought
    accepted bigint not null default 0 check (accepted >= 0),
    -- of these, bytes that the process was given
    delivered bigint not null default 0,
    -- nothing follows what was accepted
    ended boolean not null default false,
    primary key (task_id, run),
    constraint delivered_was_accepted check (delivered between 0 and accepted)
) with (fillfactor = 50);

-- What was accepted and not delivered; a few hundred kilobytes for each run at most.
create table task_input_chunk (
    task_id uuid not null,
    run integer not null,
    start_offset bigint not null check (start_offset >= 0),
    data bytea not null check (octet_length(data) > 0),
    primary key (task_id, run, start_offset)
);
alter table task_input_chunk alter column data set storage external;

-- A signal on its way to a worker. Who sent it waits for the outcome and removes it; what is left of those that could not
-- is swept after a minute.
create table task_signal (
    id bigint generated always as identity primary key,
    task_id uuid not null,
    run integer not null check (run >= 1),
    epoch bigint not null check (epoch >= 1),
    lease_id uuid not null,
    worker_session bigint not null,
    signal smallint not null check (signal between 1 and 64),
    root_only boolean not null,
    -- 1 delivered, 2 not running; null: not known yet
    outcome smallint check (outcome between 1 and 2),
    at timestamptz not null default clock_timestamp()
);
create index task_signal_by_worker on task_signal (worker_session) where outcome is null;

-- Signal to begin a cancel with; null: TERM.
alter table task_live
    add column cancel_signal smallint check (cancel_signal between 1 and 64),
    add constraint a_cancel_signal_needs_a_cancel check (cancel_signal is null or cancel_requested_at is not null);
