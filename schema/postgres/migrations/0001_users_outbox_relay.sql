-- The users, the ledger of their events (outbox), and how far the relay has read it.

create table users (
    id         bigint generated always as identity primary key,
    name       text           not null,
    email      text           not null,
    -- The user's own count of changes: 1 at creation, one more for each change.
    version    bigint         not null default 1,
    -- Whole milliseconds, because that is what MongoDB keeps: both hold the very same instant.
    updated_at timestamptz(3) not null default clock_timestamp()
);

create unique index users_email_key on users (lower(email));

-- A user's state as its event carries it: the names and the order of its JSON.
create type user_payload as (
    id bigint, name text, email text, updated_at text, version bigint
);

create function user_state(
    id bigint, name text, email text, updated_at timestamptz(3), version bigint
) returns json language sql stable
return row_to_json(row(
    id, name, email,
    to_char(updated_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
    version
)::user_payload);

-- An insert-only ledger: nothing is updated or deleted row by row, old partitions are dropped.
-- Ids are handed out one by one (no CACHE) and after the transaction has its xid, because every
-- writer changes its users row first: the relay's reasoning about missing ids rests on both.
create sequence outbox_id_seq as bigint no cycle;

create table outbox (
    id          bigint      not null default nextval('outbox_id_seq') primary key,
    event_id    uuid        not null,
    type        text        not null,
    user_id     bigint      not null,
    version     bigint      not null,
    payload     json        not null,
    traceparent text,
    created_at  timestamptz not null default clock_timestamp()
) partition by range (id);

alter sequence outbox_id_seq owned by outbox.id;

-- Named after their bounds; the active relay makes the next ones ahead of need and drops old ones.
create table outbox_1_1000001 partition of outbox for values from (1) to (1000001);

-- Takes what no other partition is there for, so that a write never fails for want of one.
create table outbox_overflow partition of outbox default;

-- One row: the lease of the active relay and what it has brought to the stream.
create table relay_cursor (
    -- Every event with an id up to this one is on the stream, parked, or in a gap.
    last_id           bigint      not null default 0,
    -- Ids up to last_id that are not there yet: their transaction is open, or was rolled back.
    gaps              int8range[] not null default '{}',
    -- The last event that the stream acknowledged, and where it stands there. If it is no longer
    -- found there, the stream has lost what it had acknowledged.
    stream_sequence   bigint      not null default 0,
    stream_event_id   uuid,
    owner             text,
    -- Grows with every change of the owner: what an earlier owner says no longer counts.
    epoch             bigint      not null default 0,
    expires_at        timestamptz not null default '-infinity',
    only_row          boolean     primary key default true check (only_row)
) with (fillfactor = 10);

insert into relay_cursor default values;

-- Where the cursor stood when the stream ended with an event: the way back if the stream turns
-- out to have lost what came after it.
create table relay_checkpoint (
    stream_sequence bigint      primary key,
    stream_event_id uuid        not null,
    last_id         bigint      not null,
    gaps            int8range[] not null,
    saved_at        timestamptz not null default clock_timestamp()
);

-- Events that JetStream refuses for what they are. They hold up nobody and wait for an operator.
create table outbox_parked (
    id          bigint      primary key,
    event_id    uuid        not null,
    type        text        not null,
    user_id     bigint      not null,
    version     bigint      not null,
    payload     json        not null,
    traceparent text,
    created_at  timestamptz not null,
    reason      text        not null,
    attempts    int         not null,
    parked_at   timestamptz not null default clock_timestamp()
);

-- What is written but not yet on the stream.
create view outbox_pending as
select o.*
from relay_cursor c
join outbox o on o.id > c.last_id
union all
select o.*
from relay_cursor c
cross join unnest(c.gaps) as gap
join outbox o on o.id >= lower(gap) and o.id < upper(gap);
