-- How much the files of a session and of a namespace take, and content that lies outside of the database.
--
-- The counters are kept by triggers, within the statement that writes, so that whoever writes or deletes files keeps
-- them right and nobody has to scan.

create table file_usage (
    session_uid bigint primary key references session on delete cascade,
    namespace_id integer not null,
    files bigint not null check (files >= 0),
    bytes bigint not null check (bytes >= 0)
) with (fillfactor = 50);

-- Sessions share the 16 rows of their namespace, so that writers of different sessions seldom wait for one another.
create table namespace_file_usage (
    namespace_id integer not null,
    shard smallint not null check (shard between 0 and 15),
    files bigint not null check (files >= 0),
    bytes bigint not null check (bytes >= 0),
    primary key (namespace_id, shard)
) with (fillfactor = 50);

insert into file_usage (session_uid, namespace_id, files, bytes)
select f.session_uid, s.namespace_id, count(*), sum(f.size)
from file f join session s on s.uid = f.session_uid
group by f.session_uid, s.namespace_id;

insert into namespace_file_usage (namespace_id, shard, files, bytes)
select namespace_id, session_uid % 16, sum(files), sum(bytes) from file_usage group by namespace_id, session_uid % 16;

-- Content in the object store, named by its id: a name is used once, so that nothing is ever overwritten and what is
-- swept cannot be wanted again. Equal content of a namespace is stored once, which `sha256` tells.
create table file_object (
    id uuid primary key,
    namespace_id integer,
    -- 1 on its way, 2 stored, 3 to be removed
    state smallint not null check (state between 1 and 3),
    sha256 bytea check (octet_length(sha256) = 32),
    size bigint check (size >= 0),
    -- files that have it as their content
    refs bigint not null default 0 check (refs >= 0),
    -- when the upload was last seen alive, or `refs` last changed
    touched_at timestamptz not null default clock_timestamp(),
    constraint only_stored_content_is_referred_to check (refs = 0 or state = 2),
    constraint stored_content_is_known
        check (state <> 2 or (namespace_id is not null and sha256 is not null and size is not null))
);
create unique index file_object_by_content on file_object (namespace_id, sha256) where state = 2;
create index file_object_unused on file_object (touched_at) where refs = 0;

-- null: the content is in `file_chunk`
alter table file add column object_id uuid;

create function note_file_changes() returns trigger language plpgsql as $$
declare
    sessions bigint[];
    more_files bigint[];
    more_bytes bigint[];
begin
    if tg_op = 'INSERT' then
        select array_agg(d.uid order by d.uid), array_agg(d.n order by d.uid), array_agg(d.size order by d.uid)
            into sessions, more_files, more_bytes
            from (select session_uid as uid, count(*) as n, sum(size)::bigint as size
                  from new_files group by session_uid) d;
        update file_object o set refs = o.refs + d.n, touched_at = clock_timestamp()
            from (select object_id, count(*) as n from new_files where object_id is not null group by object_id) d
            where o.id = d.object_id;
    elsif tg_op = 'UPDATE' then
        select array_agg(d.uid order by d.uid), array_agg(0::bigint order by d.uid), array_agg(d.size order by d.uid)
            into sessions, more_files, more_bytes
            from (select uid, sum(size)::bigint as size
                  from (select session_uid as uid, size from new_files
                        union all select session_uid, -size from old_files) change
                  group by uid) d;
        update file_object o set refs = o.refs + d.n, touched_at = clock_timestamp()
            from (select object_id, sum(n)::bigint as n
                  from (select object_id, 1 as n from new_files where object_id is not null
                        union all select object_id, -1 from old_files where object_id is not null) change
                  group by object_id having sum(n) <> 0) d
            where o.id = d.object_id;
    else
        select array_agg(d.uid order by d.uid), array_agg(-d.n order by d.uid), array_agg(-d.size order by d.uid)
            into sessions, more_files, more_bytes
            from (select session_uid as uid, count(*) as n, sum(size)::bigint as size
                  from old_files group by session_uid) d;
        update file_object o set refs = o.refs - d.n, touched_at = clock_timestamp()
            from (select object_id, count(*) as n from old_files where object_id is not null group by object_id) d
            where o.id = d.object_id;
    end if;
    if sessions is null then
        return null;
    end if;
    if tg_op = 'INSERT' then
        insert into file_usage (session_uid, namespace_id, files, bytes)
            select s.uid, s.namespace_id, 0, 0 from session s where s.uid = any(sessions) order by s.uid
            on conflict (session_uid) do nothing;
        insert into namespace_file_usage (namespace_id, shard, files, bytes)
            select distinct u.namespace_id, u.session_uid % 16, 0, 0 from file_usage u where u.session_uid = any(sessions)
            on conflict (namespace_id, shard) do nothing;
    end if;
    -- always in this order, sessions before namespaces
    perform 1 from file_usage u where u.session_uid = any(sessions) order by u.session_uid for no key update;
    update file_usage u set files = u.files + d.files, bytes = u.bytes + d.bytes
        from unnest(sessions, more_files, more_bytes) d(uid, files, bytes)
        where u.session_uid = d.uid;
    update namespace_file_usage n set files = n.files + d.files, bytes = n.bytes + d.bytes
        from (select u.namespace_id, u.session_uid % 16 as shard, sum(c.files)::bigint as files, sum(c.bytes)::bigint as bytes
              from unnest(sessions, more_files, more_bytes) c(uid, files, bytes)
              join file_usage u on u.session_uid = c.uid
              group by 1, 2) d
        where n.namespace_id = d.namespace_id and n.shard = d.shard;
    return null;
end
$$;

create trigger files_inserted after insert on file
    referencing new table as new_files for each statement execute function note_file_changes();
create trigger files_updated after update on file
    referencing old table as old_files new table as new_files for each statement execute function note_file_changes();
create trigger files_deleted after delete on file
    referencing old table as old_files for each statement execute function note_file_changes();

-- A session that goes before its files takes its share out of its namespace's count.
create function note_usage_gone() returns trigger language plpgsql as $$
begin
    update namespace_file_usage n set files = n.files - old.files, bytes = n.bytes - old.bytes
        where n.namespace_id = old.namespace_id and n.shard = old.session_uid % 16;
    return null;
end
$$;
create trigger usage_gone after delete on file_usage
    for each row when (old.files > 0 or old.bytes > 0) execute function note_usage_gone();
