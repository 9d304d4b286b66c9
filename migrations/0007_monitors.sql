-- Monitors: tasks that never run themselves, and start others by a schedule.

alter table task_live
    add column is_monitor boolean not null default false,
    drop constraint task_live_gate_check,
    -- 0 open, 1 not before `not_before`, 2 held, 3 a monitor's
    add constraint task_live_gate_check check (gate between 0 and 3),
    add constraint a_monitor_is_never_claimed check (not is_monitor or (state = 0 and gate in (2, 3))),
    add constraint a_monitors_gate_is_its_own check (gate <> 3 or is_monitor);

-- One row for each live monitor, and a little beyond its end. Firings and judgements are written under the lock of the
-- monitor's live row, in the transaction that makes them true; only leaving out a firing is a statement of its own.
create table monitor (
    task_id uuid primary key,
    namespace_id integer not null,
    session_uid bigint not null,
    -- TaskDefinition of the firings, with the schedule
    definition bytea not null,
    -- 1 skip, 2 queue one, 3 allow
    overlap smallint not null check (overlap between 1 and 3),
    keep_firings integer not null check (keep_firings between 1 and 1000),
    -- what the schedule says the next firing is, and when it is made; null: none is left
    slot_at timestamptz,
    next_at timestamptz,
    -- firings so far, and times that were left out
    firings bigint not null default 0 check (firings >= 0),
    skipped bigint not null default 0 check (skipped >= 0),
    -- the firing that was judged last, and how it ended
    judged bigint not null default 0 check (judged between 0 and firings),
    last_task uuid,
    -- 3 succeeded, 4 failed, 5 canceled
    last_state smallint check (last_state between 3 and 5),
    last_summary text not null default '',
    -- SHA-256 of what came of the newest firing that was not canceled
    last_digest bytea check (octet_length(last_digest) = 32),
    constraint a_next_firing_is_whole check ((slot_at is null) = (next_at is null)),
    constraint a_judgement_is_whole check ((judged = 0) = (last_state is null) and (judged = 0) = (last_task is null))
) with (fillfactor = 70);
create index monitor_due on monitor (next_at) where next_at is not null;
create index monitor_by_namespace on monitor (namespace_id, task_id);

-- A firing that was not judged yet.
create table monitor_firing (
    task_id uuid not null references monitor on delete cascade,
    number bigint not null check (number >= 1),
    firing_id uuid not null,
    primary key (task_id, number)
);
