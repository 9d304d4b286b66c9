-- Deleting tasks: what counts of them as bytes, and the wakes that outlive them.

-- Bytes that a task keeps: output of all its runs, and the files below its folder. `0` comes right after `/`, so
-- everything below the folder lies between the two.
create function kept_bytes(of_session bigint, of_task uuid) returns bigint language sql stable as $$
    select coalesce((select sum(least(durable_end, head_bytes + tail_bytes)) from output_stream where task_id = of_task), 0)::bigint
        + coalesce((select sum(size) from file
            where session_uid = of_session
                and path > '/.tasks/task_' || replace(of_task::text, '-', '') || '/'
                and path < '/.tasks/task_' || replace(of_task::text, '-', '') || '0'), 0)::bigint
$$;

-- Set when the task of a wake that nobody has acknowledged was deleted by retention; it is forgotten some time after.
alter table wake add column task_deleted_at timestamptz;
create index wake_to_forget on wake (task_deleted_at) where task_deleted_at is not null;
