-- The size that a client gave to the terminal of a live task. The newest counts, for the run that is and for those that
-- follow; it goes with the task's live row.
create table task_terminal (
    task_id uuid primary key,
    rows smallint not null check (rows between 1 and 1000),
    columns smallint not null check (columns between 1 and 1000),
    -- grows with each change
    number bigint not null default 1 check (number >= 1)
) with (fillfactor = 50);
