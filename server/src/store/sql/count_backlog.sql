-- What a pool of workers has to do: tasks of its routes that could start now, at most $4 of each route, and what the
-- workers hold that carry its labels and serve one of its queues. Of these, what draining ones hold stands apart: they take
-- nothing more, and their tasks need no worker beside them.
select
  (select coalesce(sum(ready.tasks), 0)::bigint
   from unnest($1::integer[]) r (id)
   cross join lateral (
     select count(*) as tasks
     from (
       select 1 from task_live l
       where l.route_id = r.id and l.state = 0 and l.gate = 0 and l.worker_session is null
       limit $4) front) ready) as "queued!",
  held.active as "held!",
  held.draining as "draining!"
from (
  select count(*) filter (where w.status = 1) as active, count(*) filter (where w.status = 2) as draining
  from worker_session w join task_live l on l.worker_session = w.id
  where w.status <= 2 and w.labels @> ($2::text)::jsonb and w.queues && $3::text[]) held
