-- What happened to users, in the order in which it was recorded.
create table audit_entry (
    id bigint generated always as identity primary key,
    event_id uuid not null,
    event_type text not null,
    user_id bigint not null,
    version bigint not null,
    happened_at timestamptz not null,
    recorded_at timestamptz not null default clock_timestamp(),
    -- The body of the event as it was published.
    event json not null
);

create index audit_entry_user_id_version_idx on audit_entry (user_id, version);

-- The events that have taken effect. A row is inserted in the transaction of the effect: either
-- both are there or neither, so an event that is delivered again has no second effect.
create table inbox (
    event_id uuid primary key,
    received_at timestamptz not null default clock_timestamp()
);

-- How far each consumer has read the stream, to find events that left it unread.
create table stream_position (
    consumer text primary key,
    revision bigint not null,
    position json not null
);
