-- Who calls: the holders of leases, and the audit log.

-- Who attached, as kind and name of the credential; null: nobody had to say. Calls under a lease are taken from its
-- holder only.
alter table worker_session add column holder text collate "C";

-- What was done and what was denied. Entries are added and, when they are old, deleted; they never change.
create table audit_event (
    id bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    who text collate "C" not null,
    role text collate "C" not null,
    credential text collate "C" not null,
    peer text not null,
    method text collate "C" not null,
    namespace text collate "C" not null,
    session_id text collate "C" not null,
    task text collate "C" not null,
    request_id text collate "C" not null,
    -- 1 allowed, 2 denied, 3 failed
    decision smallint not null check (decision between 1 and 3),
    code text collate "C" not null,
    -- calls that the entry stands for
    calls integer not null check (calls >= 1)
);
create index audit_event_by_who on audit_event (who, id);
create index audit_event_by_namespace on audit_event (namespace, id);
create index audit_event_denied on audit_event (id) where decision = 2;
create index audit_event_by_time on audit_event (at);

create function audit_event_is_append_only() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' and old.at < clock_timestamp() - interval '7 days' then
        return old;
    end if;
    raise exception 'the audit log is append-only: entries never change, and stay for at least 7 days'
        using errcode = 'insufficient_privilege';
end
$$;
create trigger audit_event_append_only before update or delete on audit_event
    for each row execute function audit_event_is_append_only();
create trigger audit_event_no_truncate before truncate on audit_event
    for each statement execute function audit_event_is_append_only();
