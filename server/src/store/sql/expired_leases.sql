-- Leases whose workers were silent for the whole of them, counted from $1 at the earliest; after task $2, at most $3.
-- A session that has ended is looked at for an hour more, for a claim may have met its end.
-- From each worker to its leases by their index: `offset 0` keeps the planner from joining with the whole queue.
select l.id, l.session_uid, l.epoch, l.lease_id as "lease_id!", l.state = 0 as "is_offered!",
  clock_timestamp() - make_interval(secs => l.lease_ms / 1000.0) as "renewed_before!"
from worker_session w
cross join lateral (
  select id, session_uid, epoch, lease_id, state, lease_ms from task_live where worker_session = w.id offset 0) l
where (w.status <= 2 or w.ended_at > clock_timestamp() - interval '1 hour')
  and l.id > $2
  and greatest(w.renewed_at, $1) < clock_timestamp() - make_interval(secs => l.lease_ms / 1000.0)
order by l.id limit $3
