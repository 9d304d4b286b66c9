-- Gives up worker sessions that were silent for $2 seconds, counted from $1 at the earliest, and hold nothing.
-- A question of its own for each worker goes by the leases' index; a `not exists` may read the whole queue.
update worker_session w set status = 3, ended_at = clock_timestamp()
where w.status <= 2 and greatest(w.renewed_at, $1) < clock_timestamp() - make_interval(secs => $2)
  and (select l.id from task_live l where l.worker_session = w.id limit 1) is null
returning w.id
