-- What runs have used, added up.

-- Of each session, kept by the statement that numbers its events; counts on whatever retention deletes.
alter table session
    -- tasks with a run that has ended, and the runs
    add column used_tasks bigint not null default 0 check (used_tasks >= 0),
    add column used_runs bigint not null default 0 check (used_runs >= used_tasks),
    add column used_cpu_ms bigint not null default 0 check (used_cpu_ms >= 0),
    -- the greatest of any run
    add column used_max_rss_bytes bigint not null default 0 check (used_max_rss_bytes >= 0);

-- Sums of what the work of a session reported, by name.
create table session_usage (
    session_uid bigint not null,
    name text collate "C" not null check (octet_length(name) <= 128),
    total numeric not null,
    primary key (session_uid, name)
) with (fillfactor = 70);

-- The ended runs of trees: all of the tasks below a root, and of the root those that its end row does not tell of. So a
-- task that has no parent and ends by the report of its first run costs no row. A row stays until its task and the root
-- are gone.
create table run_usage (
    root_id uuid not null,
    task_id uuid not null,
    run integer not null check (run >= 1),
    cpu_ms bigint not null check (cpu_ms >= 0),
    max_rss_bytes bigint not null check (max_rss_bytes >= 0),
    -- numbers by name; null: none
    reported jsonb,
    primary key (root_id, task_id, run)
);
