-- Streams that lost messages.

-- One begins whenever the relay moves back to an earlier sequence of the stream: other messages may stand
-- above it from then on. Readers learn of it by the stream's metadata.
create table outbox.incarnation (
    stream   text        not null references outbox.cursor on update cascade on delete cascade,
    number   bigint      not null,
    -- Messages up to this one are those of the incarnation before.
    sequence bigint      not null,
    began_at timestamptz not null default clock_timestamp(),
    primary key (stream, number)
);

-- Where the stream began when it was last looked at, when the message there was published, and by which
-- age messages expired: to notice what leaves it before its time.
alter table outbox.cursor
    add column stream_first_sequence  bigint,
    add column stream_first_at        timestamptz,
    add column stream_max_age_seconds double precision;

-- Sequences whose messages left the stream before their time. The cursor takes the events back that may
-- have stood there, so they are published again.
create table outbox.stream_loss (
    stream           text        not null references outbox.cursor
                                 on update cascade on delete cascade,
    first_sequence   bigint      not null,
    last_sequence    bigint      not null check (first_sequence <= last_sequence),
    -- Events of the ledger that may have stood there.
    ids              int8range[] not null,
    -- Whether the ledger had all of them when this was found.
    is_complete      boolean     not null,
    -- The events are on the stream again at this sequence or before it; null until they are.
    refilled_through bigint,
    found_at         timestamptz not null default clock_timestamp(),
    primary key (stream, first_sequence)
);
