-- Runs that outlive their worker's process, and runs that its shutdown cut short.

-- An attempt also ends, without an error kind, when the worker's next boot takes its run over: the run goes on under the
-- next attempt. Its message says so.

alter table task_live
    -- runs that a shutdown of their worker cut short: they do not count against the retry
    add column forgiven_runs integer not null default 0,
    add constraint forgiven_runs_were_run check (forgiven_runs between 0 and run);
