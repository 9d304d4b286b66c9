-- Ended tasks of a session beyond its limits of number ($2) and bytes ($3), counted from the newest; oldest first. Sizes
-- are looked up only where they are limited, and of what is found.
select ranked.id as "id!", kept_bytes($1, ranked.id) as "bytes!"
from (
    select
        t.id, t.ordinal,
        row_number() over newest_first as place,
        sum(case when $3::bigint is null then 0 else kept_bytes(t.session_uid, t.id) end) over newest_first
            as bytes_so_far
    from task t
    join task_end e on e.id = t.id
    where t.session_uid = $1
    window newest_first as (order by t.ordinal desc)
) ranked
where (ranked.place > $2::bigint or ranked.bytes_so_far > $3::bigint)
    and not exists (select 1 from task c join task_live l on l.id = c.id where c.parent_id = ranked.id)
order by ranked.ordinal
limit $4
