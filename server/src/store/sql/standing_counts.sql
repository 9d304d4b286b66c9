-- What the queues hold by namespace, queue and kind. Of each route at most $1 tasks in each state are counted, from its
-- head on, each by an index alone. Since when a task could start is what its id says of its creation, in milliseconds, or
-- the time before which it must not start.
with live as materialized (
  select r.queue, r.kind, l.session_uid, l.state, l.since
  from route r
  cross join lateral (
    (select ready.session_uid, 0 as state,
       greatest(('x' || substr(replace(ready.id::text, '-', ''), 1, 12))::bit(48)::bigint / 1000.0,
         extract(epoch from ready.not_before)) as since
     from task_live ready
     where ready.route_id = r.id and ready.state = 0 and ready.gate = 0 and ready.worker_session is null
     order by ready.priority desc, ready.fair_key, ready.id limit $1)
    union all
    (select waits.session_uid, 3, null from task_live waits
     where waits.route_id = r.id and waits.gate in (1, 2) and not waits.is_monitor limit $1)
    union all
    (select busy.session_uid, 1, null from task_live busy where busy.route_id = r.id and busy.state = 1 limit $1)
    union all
    (select asks.session_uid, 2, null from task_live asks where asks.route_id = r.id and asks.state = 2 limit $1)) l),
grouped as (
  select s.namespace_id, live.queue, live.kind, count(*) filter (where live.state = 0) as queued,
    count(*) filter (where live.state = 3) as waiting, count(*) filter (where live.state = 1) as running,
    count(*) filter (where live.state = 2) as asking, min(live.since) as since
  from live join session s on s.uid = live.session_uid
  group by s.namespace_id, live.queue, live.kind)
select n.name as "namespace!", g.queue as "queue!", g.kind as "kind!", g.queued as "queued!",
  g.waiting as "waiting!", g.running as "running!", g.asking as "awaiting_input!",
  (extract(epoch from clock_timestamp()) - g.since)::float8 as oldest_age
from grouped g join namespace n on n.id = g.namespace_id
order by 1, 2, 3
