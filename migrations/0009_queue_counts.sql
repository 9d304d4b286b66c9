-- What queues hold is counted by index alone. Tasks that a worker holds, or that ask, enter and leave this index with their
-- state, when they enter and leave `task_live_busy` as well, so that no update is less hot for it.
create index task_live_busy_by_route on task_live (route_id, state) where state > 0;
