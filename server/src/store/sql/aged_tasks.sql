-- Ended tasks that are older than their session's limit, or their namespace's, allows, oldest first. The index on the
-- time of the end is followed from its oldest entry up to the shortest limit.
with shortest as (
    select min(ended_task_ttl_ms) as ttl_ms from retention where namespace_id = $1
)
select e.id, t.session_uid, kept_bytes(t.session_uid, e.id) as "bytes!"
from task_end e
join task t on t.id = e.id
cross join lateral (
    select ended_task_ttl_ms from retention
    where namespace_id = $1 and (session_uid = t.session_uid or session_uid is null)
    order by session_uid nulls last
    limit 1
) r
where e.finished_at < clock_timestamp() - (select ttl_ms from shortest) * interval '1 ms'
    and e.finished_at < clock_timestamp() - r.ended_task_ttl_ms * interval '1 ms'
    and t.namespace_id = $1
    and ($2::bigint is null or t.session_uid = $2)
    and not exists (select 1 from task c join task_live l on l.id = c.id where c.parent_id = e.id)
order by e.finished_at
limit $3
