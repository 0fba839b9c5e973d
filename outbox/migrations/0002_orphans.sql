-- A database that lost its most recent writes: restored from a backup, or a standby that was promoted.
-- Messages of those writes are still on the streams. They are orphans: the relay finds them and has
-- their aggregates restated.

-- Dumps, copies and standbys have the same one: they are the same ledger.
alter table outbox.ledger add column ledger_id uuid not null default gen_random_uuid();

-- Which database of this ledger is at the other end of the connection: `system/timeline/database`. A
-- restored or promoted one has another identity. What a role must not ask is 0. (One statement for each
-- question, since a role's rights to a function are checked when its statement begins.)
create function outbox.database_identity() returns text
language plpgsql stable parallel safe as $$
declare
    system   bigint  := 0;
    timeline integer := 0;
    database oid     := (select oid from pg_database where datname = current_database());
begin
    if has_function_privilege('pg_control_system()', 'execute') then
        system := (select system_identifier from pg_control_system());
    end if;
    -- The control file has the new timeline only after the first checkpoint.
    if not pg_is_in_recovery()
        and has_function_privilege('pg_current_wal_lsn()', 'execute')
        and has_function_privilege('pg_walfile_name(pg_lsn)', 'execute')
    then
        timeline := ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer;
    end if;
    return system || '/' || timeline || '/' || database;
end
$$;

alter table outbox.cursor
    -- All messages up to this sequence have been looked up in the ledger.
    add column looked_up_to       bigint      not null default 0,
    -- Of the database whose relay looked them up.
    add column database_identity  text,
    -- Since when it has been unknown whether the stream has, or had, orphans; null if it is known.
    add column unreconciled_since timestamptz,
    -- An operator has said that this ledger takes the stream over from another one.
    add column adopts             boolean     not null default false;

-- How aggregates of a type are restated: by a function of the service that owns them, as in
--
--     create function restate_orders(aggregate_ids text[], versions bigint[]) returns setof text …;
--     insert into outbox.aggregate values ('order', 'public.restate_orders');
--
-- For each of these aggregates it appends an event with the present state, or with the deletion of one
-- that is not there, at a version above the one given (null if that is not known), and returns its id.
-- The relay asks again for those that it leaves out; for what can never succeed the function has to fail.
-- Until it commits, nobody may write an event of these aggregates, nor create one. It is named by text, because `pg_upgrade` refuses
-- columns of type `regprocedure`.
create table outbox.aggregate (
    aggregate_type text primary key,
    restate        text not null
);

-- Aggregates of which a stream has messages that the ledger does not have.
create table outbox.orphan (
    stream             text        not null references outbox.cursor
                                   on update cascade on delete cascade,
    aggregate_type     text        not null,
    aggregate_id       text        not null,
    -- The greatest of the messages; null if none has one.
    version            bigint,
    -- Of the last of the messages.
    stream_sequence    bigint      not null,
    messages           bigint      not null default 1,
    found_at           timestamptz not null default clock_timestamp(),
    restated_at        timestamptz,
    -- Events of this aggregate up to this id, and with no higher version, are superseded: not published.
    superseded_through bigint,
    -- Why it could not be restated.
    error              text,
    -- When its function is asked again, if it left this one out.
    retry_at           timestamptz,
    primary key (stream, aggregate_type, aggregate_id)
);

create index orphan_not_restated on outbox.orphan (stream, aggregate_type) where restated_at is null;

-- Calls the function that is registered for the type.
create function outbox.restate(aggregate_type text, aggregate_ids text[], versions bigint[])
returns setof text language plpgsql volatile parallel unsafe as $$
declare
    restates constant regprocedure := (
        select to_regprocedure(aggregate.restate || '(text[],bigint[])')
        from outbox.aggregate where aggregate.aggregate_type = restate.aggregate_type
    );
begin
    if restates is null then
        raise exception using errcode = 'undefined_function', message = format(
            'the table outbox.aggregate names no function (text[], bigint[]) for the type %s',
            restate.aggregate_type
        );
    end if;
    return query execute format('select * from %s($1, $2)', restates::regproc)
    using restate.aggregate_ids, restate.versions;
end
$$;
