-- What listings go by, and how many tasks of a session stand where.

-- Tasks of a tree, without its root; of a group, in one session and in a whole namespace.
create index task_by_root on task (root_id, id) where parent_id is not null;
create index task_by_session_group on task (session_uid, group_name, ordinal) where group_name is not null;
create index task_by_group on task (namespace_id, group_name, id) where group_name is not null;

-- The few among many: tasks that run or ask, and those that did not succeed. Success pays for neither.
create index task_live_busy on task_live (id) where state > 0;
create index task_end_unsuccessful on task_end (id) where state > 3;

-- What a worker has done; what it holds is found by its sessions.
create index task_end_by_worker on task_end (worker_name, id) where worker_name is not null;
create index worker_session_by_name on worker_session (name);

-- Kept by the statement that numbers the session's events, like `open_tasks`.
alter table session
    add column succeeded_tasks bigint not null default 0 check (succeeded_tasks >= 0),
    add column failed_tasks bigint not null default 0 check (failed_tasks >= 0),
    add column canceled_tasks bigint not null default 0 check (canceled_tasks >= 0),
    add column awaiting_input_tasks bigint not null default 0 check (awaiting_input_tasks >= 0);
update session s
set succeeded_tasks = ended.succeeded, failed_tasks = ended.failed, canceled_tasks = ended.canceled
from (
    select t.session_uid,
        count(*) filter (where e.state = 3) as succeeded,
        count(*) filter (where e.state = 4) as failed,
        count(*) filter (where e.state = 5) as canceled
    from task_end e join task t on t.id = e.id group by t.session_uid
) ended
where ended.session_uid = s.uid;
update session s set awaiting_input_tasks = asking.tasks
from (select session_uid, count(*) as tasks from task_live where state = 2 group by session_uid) asking
where asking.session_uid = s.uid;
