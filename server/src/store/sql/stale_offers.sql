-- Offers that nobody answered for $1 seconds, at most $2.
-- A session that has ended is looked at for an hour more, for a claim may have met its end.
-- From each worker to its leases by their index: `offset 0` keeps the planner from joining with the whole queue.
select l.id, l.session_uid, l.epoch, l.lease_id as "lease_id!"
from worker_session w
cross join lateral (
  select id, session_uid, epoch, lease_id, state, offered_at from task_live where worker_session = w.id offset 0) l
where (w.status <= 2 or w.ended_at > clock_timestamp() - interval '1 hour')
  and l.state = 0 and l.offered_at < clock_timestamp() - make_interval(secs => $1)
limit $2
