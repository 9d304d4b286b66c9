-- Ended tasks of a session beyond its limits of number ($2) and bytes ($3), counted from the newest; oldest first.
select ranked.id as "id!", ranked.bytes as "bytes!"
from (
    select
        t.id, t.ordinal, coalesce(o.bytes, 0)::bigint as bytes,
        row_number() over newest_first as place,
        sum(coalesce(o.bytes, 0)) over newest_first as bytes_so_far
    from task t
    join task_end e on e.id = t.id
    left join lateral (
        select sum(least(durable_end, head_bytes + tail_bytes)) as bytes from output_stream where task_id = t.id
    ) o on true
    where t.session_uid = $1
    window newest_first as (order by t.ordinal desc)
) ranked
where (ranked.place > $2::bigint or ranked.bytes_so_far > $3::bigint)
    and not exists (select 1 from task c join task_live l on l.id = c.id where c.parent_id = ranked.id)
order by ranked.ordinal
limit $4
