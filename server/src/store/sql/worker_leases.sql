-- The leases of the worker sessions $1.
select id, session_uid, epoch, lease_id as "lease_id!", state = 0 as "is_offered!",
  cancel_requested_at is not null as "is_canceled!", cancel_grace_ms, cancel_signal
from task_live where worker_session = any($1)
