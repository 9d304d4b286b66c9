-- Listing a namespace's sessions, and which worker an entry of the audit log is about.

-- Newest first, without a look at other namespaces' sessions.
create index session_by_namespace on session (namespace_id, uid) where deleted_at is null;

-- Of calls that attach a worker: the name and the pool that it says it has; else empty.
alter table audit_event
    add column worker text collate "C" not null default '',
    add column pool text collate "C" not null default '';
