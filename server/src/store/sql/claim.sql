-- Offers the best tasks of the routes $1 to the slots ($2: worker sessions, $3: their streams), at most $4.
-- The pick is materialised so that the planner cannot run it twice and stamp more rows than there are slots. A slot of a
-- session that has ended, or whose stream was replaced, is none; the others are numbered without it.
with slot as materialized (
  select s.worker, s.attach_no, row_number() over (order by s.nr) as nr
  from unnest($2::bigint[], $3::bigint[]) with ordinality s(worker, attach_no, nr)
  join worker_session w on w.id = s.worker and w.attach_no = s.attach_no and w.status = 1),
picked as materialized (
  select best.id, row_number() over (order by best.priority desc, best.fair_key, best.id) as nr
  from (
    select t.id, t.priority, t.fair_key
    from unnest($1::int[]) r(id)
    cross join lateral (
      select l.id, l.priority, l.fair_key from task_live l
      where l.route_id = r.id and l.state = 0 and l.gate = 0 and l.worker_session is null
      order by l.priority desc, l.fair_key, l.id limit $4
      for update skip locked) t
    order by t.priority desc, t.fair_key, t.id limit $4) best)
update task_live l
set worker_session = slot.worker, attach_no = slot.attach_no, epoch = l.epoch + 1, lease_id = gen_random_uuid(),
  item_no = 0, offered_at = clock_timestamp()
from picked join slot on slot.nr = picked.nr
where l.id = picked.id
returning l.id, l.worker_session as "worker!", l.epoch, l.lease_id as "lease_id!", l.lease_ms,
  l.attempt + 1 as "attempt!", l.run + 1 as "run!", l.updated_at as queued_at
