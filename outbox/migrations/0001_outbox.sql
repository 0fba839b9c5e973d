-- A transactional outbox: producers append events in their own transactions, a relay publishes them.
-- PostgreSQL 14 or later. Everything is in the schema `outbox`, so that it can be added to any database.

create schema if not exists outbox;

-- Which releases can run on this schema: those that know at least this migration.
create table outbox.schema_requirement (
    is_only_row boolean primary key default true check (is_only_row),
    migration   bigint not null
);
insert into outbox.schema_requirement (migration) values (1);

-- No cache: a session that kept ids back would hand out lower ones after higher ones were committed,
-- for the same aggregate as well.
create sequence outbox.event_id_seq as bigint cache 1 no cycle;

-- An id, drawn only after the transaction has its xid. The relay concludes from this that an id
-- which is missing will stay so once all transactions with lower xids than its own have ended.
-- `case` fixes the order of the two, and the planner puts this expression in the place of the call.
create function outbox.next_event_id() returns bigint language sql volatile parallel unsafe
return case when pg_current_xact_id() is not null then nextval('outbox.event_id_seq') end;

-- A UUID of version 7 (RFC 9562): 48 bits of Unix time in milliseconds, the rest random.
create function outbox.uuid_v7() returns uuid language sql volatile parallel safe
return encode(
    set_bit(
        set_bit(
            overlay(
                uuid_send(gen_random_uuid())
                placing substring(
                    int8send((extract(epoch from clock_timestamp()) * 1000)::bigint) from 3
                )
                from 1 for 6
            ),
            52, 1
        ),
        53, 1
    ),
    'hex'
)::uuid;

-- Headers of a message: names that NATS can carry and that the relay does not set itself
-- (`Nats-Rollup`, for one, would empty the stream) nor a consumer, and values in one line.
create function outbox.are_headers(headers json) returns boolean
language plpgsql immutable parallel safe as $$
declare
    header record;
begin
    if json_typeof(headers) <> 'object' or octet_length(headers::text) > 16384 then
        raise exception using errcode = 'check_violation',
            message = 'the headers must be a JSON object of strings, at most 16384 bytes long';
    end if;
    for header in select key, value from json_each(headers) loop
        if header.key !~ '^[!-9;-~]+$' collate "C" or header.key ~* '^((nats|ce|dead-letter)-|replay-of$)' collate "C" then
            raise exception using errcode = 'check_violation', message =
                'the name of a header must be visible ASCII without a colon'
                ' and must not be Replay-Of or begin with Nats-, ce- or Dead-Letter-';
        end if;
        if json_typeof(header.value) <> 'string' or header.value #>> '{}' ~ '[\r\n]' collate "C" then
            raise exception using errcode = 'check_violation',
                message = 'the value of a header must be a string in one line';
        end if;
    end loop;
    return true;
end
$$;

-- Refuses an event that could not be published, in its producer's transaction and with the reason.
-- One function for all columns: a check costs each statement its preparation. (And no `{1,255}` in
-- the patterns, which makes them ten times slower.)
create function outbox.is_publishable(
    aggregate_type text, aggregate_id text, event_type text, headers json
) returns boolean language plpgsql immutable parallel safe as $$
begin
    if char_length(aggregate_type) > 128 or aggregate_type !~ '^[A-Za-z0-9_.:/-]+$' collate "C" then
        raise exception using errcode = 'check_violation', message =
            'the aggregate type must have 1 to 128 letters, digits or characters of _.:/-';
    end if;
    if char_length(event_type) > 128 or event_type !~ '^[A-Za-z0-9_.:/-]+$' collate "C" then
        raise exception using errcode = 'check_violation', message =
            'the event type must have 1 to 128 letters, digits or characters of _.:/-';
    end if;
    if char_length(aggregate_id) > 255 or aggregate_id !~ '^[^[:cntrl:]]+$' collate "C" then
        raise exception using errcode = 'check_violation', message =
            'the aggregate id must have 1 to 255 characters, none of them a control character';
    end if;
    if headers is not null then
        return outbox.are_headers(headers);
    end if;
    return true;
end
$$;

-- An insert-only ledger: nothing is updated or deleted row by row, old partitions are dropped.
create table outbox.event (
    id             bigint      not null default outbox.next_event_id() primary key,
    -- The message's id: consumers and JetStream recognize a repeated event by it.
    event_id       uuid        not null default outbox.uuid_v7(),
    -- Order is kept among the events of one aggregate, that is of one type and id.
    aggregate_type text        not null,
    aggregate_id   text        not null,
    event_type     text        not null,
    -- The aggregate's own version, if it has one.
    version        bigint,
    -- Published byte for byte.
    payload        json        not null,
    -- Published with the message, for example `{"traceparent": "…"}`.
    headers        json,
    -- Not when the transaction began, which may be long before.
    created_at     timestamptz not null default clock_timestamp(),
    constraint event_is_publishable
        check (outbox.is_publishable(aggregate_type, aggregate_id, event_type, headers))
) partition by range (id);

alter sequence outbox.event_id_seq owned by outbox.event.id;

-- Named after their bounds; the active relay makes the next ones ahead of need and drops old ones.
create table outbox.event_1_1000001 partition of outbox.event for values from (1) to (1000001);

-- Takes what no other partition is there for, so that a write never fails for want of one.
create table outbox.event_overflow partition of outbox.event default;

-- Appends an event in the caller's transaction; its place in the ledger. Events of one aggregate are
-- published in the order of their places: the producer must hold a lock on the aggregate (usually
-- because it has just written the aggregate's row) when it calls this.
--
-- Runs with its owner's rights, so that a producer needs no more than
--     grant usage on schema outbox to producer;
--     grant execute on function outbox.append to producer;
create function outbox.append(
    aggregate_type text,
    aggregate_id   text,
    event_type     text,
    payload        json,
    version        bigint default null,
    headers        json   default null,
    -- To recognize an event that is appended again; by default a new one.
    event_id       uuid   default null
) returns bigint language plpgsql volatile parallel unsafe
security definer set search_path = pg_catalog, pg_temp as $$
declare
    appended_id bigint;
begin
    insert into outbox.event as appended
        (event_id, aggregate_type, aggregate_id, event_type, version, payload, headers)
    values (
        coalesce(append.event_id, outbox.uuid_v7()), append.aggregate_type, append.aggregate_id,
        append.event_type, append.version, append.payload, append.headers
    )
    returning appended.id into appended_id;
    return appended_id;
end
$$;

revoke execute on function outbox.append from public;

-- One row: who the active relay is.
create table outbox.lease (
    owner      text,
    -- Grows with every change of the owner: what an earlier owner says no longer counts.
    epoch      bigint      not null default 0,
    expires_at timestamptz not null default '-infinity',
    only_row   boolean     primary key default true check (only_row)
) with (fillfactor = 10);

insert into outbox.lease default values;

-- One row: how much of the ledger is still there.
create table outbox.ledger (
    -- Events with lower ids may have been dropped.
    ledger_from bigint  not null default 1,
    only_row    boolean primary key default true check (only_row)
);

insert into outbox.ledger default values;

-- One row per stream: what the relay has brought to it. A cursor of its own for each stream keeps
-- one that is unavailable, or has lost its end, from holding up or repeating events of others.
create table outbox.cursor (
    stream          text        primary key,
    -- Whose events go to this stream; null: all that no other stream names.
    aggregate_types text[],
    -- Every event with an id up to this one is on the stream, parked, of another stream, or in a gap.
    last_id         bigint      not null default 0,
    -- The event that the ledger has under `last_id`: if another is there now, or none, the ledger
    -- was restored to an earlier state and gives its ids out again.
    last_event_id   uuid,
    -- Ids up to last_id that are not there yet: their transaction is open, or was rolled back.
    gaps            int8range[] not null default '{}',
    -- The last event that the stream acknowledged, and where it stands there. If it is no longer
    -- found there, the stream has lost what it had acknowledged.
    stream_sequence bigint      not null default 0,
    stream_event_id uuid,
    -- From this sequence on the messages are enough to build a whole copy; null if that is not known.
    complete_from   bigint,
    -- Of the relay that may move this cursor.
    epoch           bigint      not null default 0
) with (fillfactor = 10);

-- Where a cursor stood when its stream ended with an event: the way back if the stream turns out to
-- have lost what came after it.
create table outbox.checkpoint (
    stream          text        not null references outbox.cursor on update cascade on delete cascade,
    stream_sequence bigint      not null,
    stream_event_id uuid        not null,
    last_id         bigint      not null,
    last_event_id   uuid,
    gaps            int8range[] not null,
    saved_at        timestamptz not null default clock_timestamp(),
    primary key (stream, stream_sequence)
);

-- Events that can't be published for what they are. They hold up nobody and wait for an operator.
create table outbox.parked (
    id             bigint      primary key,
    event_id       uuid        not null,
    aggregate_type text        not null,
    aggregate_id   text        not null,
    event_type     text        not null,
    version        bigint,
    payload        json        not null,
    headers        json,
    created_at     timestamptz not null,
    reason         text        not null,
    attempts       int         not null,
    parked_at      timestamptz not null default clock_timestamp()
);

-- Runs in which a service publishes the present state of all its aggregates, as long as they are not
-- on the stream. Once one is, the messages from its beginning on are enough to build a whole copy.
create table outbox.republish_run (
    id              bigint      generated always as identity primary key,
    stream          text        not null references outbox.cursor on update cascade on delete cascade,
    -- What the stream had acknowledged when the run began: its events have higher sequences.
    stream_sequence bigint      not null,
    -- How far the service has come, in its own numbers.
    last_key        bigint      not null default 0,
    -- Set at the end: no event of the run has a higher id.
    last_id         bigint,
    started_at      timestamptz not null default clock_timestamp()
);

-- What is written but not yet on its stream. `offset 0` keeps each lookup a lookup: as a plain join
-- the planner would merge all partitions.
create view outbox.pending as
with wanted as (
    select *, case when aggregate_types is null then array(
        select unnest(other.aggregate_types) from outbox.cursor as other
    ) end as others_types
    from outbox.cursor
)
select wanted.stream, event.*
from wanted
cross join lateral (
    select * from outbox.event where id > wanted.last_id offset 0
) as event
where event.aggregate_type = any (wanted.aggregate_types)
    or event.aggregate_type <> all (wanted.others_types)
union all
select wanted.stream, event.*
from wanted
cross join unnest(wanted.gaps) as gap
cross join lateral (
    select * from outbox.event where id >= lower(gap) and id < upper(gap) offset 0
) as event
where event.aggregate_type = any (wanted.aggregate_types)
    or event.aggregate_type <> all (wanted.others_types)
union all
-- No relay has ever run.
select null, event.* from outbox.event where not exists (select from outbox.cursor);

-- Returns true once there is an event with an id above `last_id` or in one of `gaps`, false after
-- `timeout`: producers wake the relay by committing, and need send nothing.
--
-- While no ids are drawn it costs a look at the sequence every 8 ms. Only if that shows an id that is
-- not known yet, or if ids are missing, it looks at the ledger; again only when a transaction has
-- ended since, without which nothing can have become visible; and for a twentieth of the time at
-- most. Each statement has a snapshot of its own, because the function is volatile.
--
-- The locks of a look would be held until the caller's statement ends. Then attaching or dropping a
-- partition would have to wait, and all writers behind it. So each look is rolled back.
create function outbox.wait_for_event(last_id bigint, gaps int8range[], timeout interval)
returns boolean language plpgsql volatile parallel unsafe as $$
declare
    give_up_at constant timestamptz := clock_timestamp() + timeout;
    looks_from timestamptz;
    drawn_id   bigint;
    snapshot   text;
    looked_at  text;
    is_there   boolean := false;
    pause      double precision;
    has_paused boolean;
begin
    loop
        pause := 0.008;
        drawn_id := pg_sequence_last_value('outbox.event_id_seq');
        if drawn_id > last_id or gaps <> '{}' then
            snapshot := pg_current_snapshot()::text;
            if snapshot is distinct from looked_at then
                -- Whatever this snapshot shows was drawn by now.
                drawn_id := pg_sequence_last_value('outbox.event_id_seq');
                looked_at := snapshot;
                looks_from := clock_timestamp();
                begin
                    is_there := exists (
                        select from outbox.event
                        where id > wait_for_event.last_id and id <= drawn_id
                    ) or exists (
                        select from unnest(wait_for_event.gaps) as gap
                        cross join lateral (
                            select from outbox.event
                            where id >= lower(gap) and id < upper(gap) limit 1
                        ) as late
                    );
                    raise exception using errcode = 'OBX00', message = 'releases the locks';
                exception when sqlstate 'OBX00' then
                    if is_there then
                        return true;
                    end if;
                end;
                pause := greatest(pause, 20 * extract(epoch from clock_timestamp() - looks_from));
            end if;
        end if;
        if clock_timestamp() >= give_up_at then
            return false;
        end if;
        -- An expression costs less than `perform`, which is a statement.
        has_paused := pg_sleep(pause) is not null;
    end loop;
end
$$;
