-- What was answered to requests that may be repeated, written in the transaction of their write.

create table idempotency_key (
    key         text        not null,
    -- Each chunk of an import is a part of its own; everything else is part 0.
    part        int         not null,
    -- Of what was asked: the same key may not be used for something else.
    fingerprint bytea       not null,
    outcome     json        not null,
    created_at  timestamptz not null default clock_timestamp(),
    primary key (key, part)
);

create index idempotency_key_created_at on idempotency_key (created_at);
