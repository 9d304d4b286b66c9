-- What each queue holds. Of each route at most $1 tasks in each state are counted, by index alone; the table itself is
-- looked at where its pages changed lately only.
with counted as (
  select r.queue, ready.tasks as queued, ready.oldest, running.tasks as running, asking.tasks as asking
  from route r
  cross join lateral (
    select count(*) as tasks, min(front.id::text)::uuid as oldest
    from (
      select l.id from task_live l
      where l.route_id = r.id and l.state = 0 and l.gate = 0 and l.worker_session is null
      order by l.priority desc, l.fair_key, l.id limit $1) front) ready
  cross join lateral (
    select count(*) as tasks
    from (select 1 from task_live l where l.route_id = r.id and l.state = 1 limit $1) busy) running
  cross join lateral (
    select count(*) as tasks
    from (select 1 from task_live l where l.route_id = r.id and l.state = 2 limit $1) busy) asking)
select c.queue as "queue!", sum(c.queued)::bigint as "queued!", sum(c.running)::bigint as "running!",
  sum(c.asking)::bigint as "awaiting_input!", min(t.created_at) as oldest_queued_at,
  bool_or(greatest(c.queued, c.running, c.asking) >= $1) as "is_partial!", clock_timestamp() as "counted_at!"
from counted c left join task t on t.id = c.oldest
group by c.queue order by c.queue
