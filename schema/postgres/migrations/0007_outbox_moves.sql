-- The ledger moves to the schema `outbox`, whose own migrations have run before this one. From here
-- on every event is written there; 0008 brings the earlier ones.
--
-- Releases that write to the table `outbox` go on: a view in its place appends what they insert to
-- the new ledger. Their relays stop, because the cursor has another name.

-- Writers queue behind this migration while it waits. They wait for a lock for a second at most, so
-- it gives up earlier, to be tried again.
set local lock_timeout = '500ms';

-- Whoever has drawn an id has written, and holds a lock until the end of the transaction. So once
-- these locks are there, every id is either in the ledger or will never be. (The cursor comes first,
-- as for readers of both.)
lock table relay_cursor, outbox in access exclusive mode;

alter table relay_cursor rename to relay_cursor_legacy;
alter table outbox rename to outbox_legacy;
alter sequence outbox_id_seq rename to outbox_legacy_id_seq;
drop view outbox_pending;

-- Ids go on behind those of the old ledger, so that the order of a user's events stays.
do $$
declare
    last_id bigint := greatest(
        (select case when is_called then last_value else 0 end from outbox_legacy_id_seq),
        (select last_id from relay_cursor_legacy),
        (select max(id) from outbox_legacy)
    );
    bounds text[];
begin
    if last_id > 0 then
        if exists (select from outbox.event) then
            raise exception 'the outbox has events of other producers already: they must not use it '
                'before the user service has moved its own ledger there';
        end if;
        perform setval('outbox.event_id_seq', last_id);
    end if;

    -- The partitions of the old ledger, for its events and those that come.
    for bounds in
        select regexp_match(relname, '^outbox_(\d+)_(\d+)$')
        from pg_inherits join pg_class on pg_class.oid = inhrelid
        where inhparent = 'outbox_legacy'::regclass
    loop
        if bounds is not null and bounds <> '{1,1000001}' then
            execute format(
                'create table outbox.%I partition of outbox.event for values from (%s) to (%s)',
                'event_' || bounds[1] || '_' || bounds[2], bounds[1], bounds[2]
            );
        end if;
    end loop;
end
$$;

-- The headers of an event that a traced request has caused. Every writer of this release calls it, so
-- none can write to the new ledger before this migration, which must find that ledger empty.
create function event_headers(traceparent text) returns json language sql stable parallel safe
return case when traceparent is not null then json_build_object('traceparent', traceparent) end;

-- For the inserts of older releases. It shows nothing: one of their relays that has not noticed yet
-- that it lost its lease must not publish an event before an earlier one that is still to be moved.
create view outbox as
select null::bigint as id, null::uuid as event_id, null::text as type, null::bigint as user_id,
       null::bigint as version, null::json as payload, null::text as traceparent,
       null::timestamptz as created_at
where false;

create function append_for_older_release() returns trigger language plpgsql
security definer set search_path = pg_catalog, pg_temp as $$
begin
    new.id := outbox.append(
        'user', new.user_id::text, new.type, new.payload, new.version,
        case when new.traceparent is not null then
            json_build_object('traceparent', new.traceparent)
        end,
        new.event_id
    );
    return new;
end
$$;

-- Or any role could append events with a trigger of its own.
revoke execute on function append_for_older_release() from public;

create trigger append_for_older_release instead of insert on outbox
for each row execute function append_for_older_release();

-- Whoever could write to the table can write to the view.
do $$
declare
    writer text;
begin
    for writer in
        select case grantee when 0 then 'public' else grantee::regrole::text end
        from pg_class cross join aclexplode(relacl)
        where pg_class.oid = 'outbox_legacy'::regclass and privilege_type = 'INSERT'
    loop
        execute format('grant insert on outbox to %s', writer);
    end loop;
end
$$;
