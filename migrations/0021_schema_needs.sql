-- How new a program must be for this schema.
--
-- Programs of the release before go on, and start again, on a schema that has migrations which they do not know. A
-- migration that takes away what such a program still uses, or demands of its rows what it does not write, says so here,
-- in its own transaction:
--
--     update schema_needs set migration = <its own number>;
--
-- A program that does not know that migration refuses to start.
create table schema_needs (
    one_row boolean primary key default true check (one_row),
    -- the newest migration that a program must know of
    migration bigint not null check (migration > 0)
);

insert into schema_needs (migration) values (21);
