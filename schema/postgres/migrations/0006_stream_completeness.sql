-- From which sequence on the messages of the stream are enough to build a whole copy.

-- The migration gives up rather than let writers or the active relay queue behind it.
set local lock_timeout = '3s';

alter table relay_cursor
    -- Events with lower ids may have been dropped from the outbox.
    add column ledger_from bigint not null default 1,
    -- That sequence; null if it is not known.
    add column complete_from bigint;

update relay_cursor set ledger_from = coalesce(
    (
        select min(substring(relname from '^outbox_(\d+)_\d+$')::bigint)
        from pg_inherits join pg_class on pg_class.oid = inhrelid
        where inhparent = 'outbox'::regclass
    ),
    1
);

-- Nothing was published yet: all will be, from the first event on.
update relay_cursor set complete_from = 1
where last_id = 0 and gaps = '{}' and stream_event_id is null and ledger_from = 1;

-- Runs of `republish --all` that are not on the stream yet. Once one is, the messages from its
-- beginning on hold every user.
create table republish_run (
    id              bigint      generated always as identity primary key,
    -- What the stream had acknowledged when the run began: its events have higher sequences.
    stream_sequence bigint      not null,
    last_user_id    bigint      not null default 0,
    -- Set at the end: no event of the run has a higher id.
    last_outbox_id  bigint,
    started_at      timestamptz not null default clock_timestamp()
);
