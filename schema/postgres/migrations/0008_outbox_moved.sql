-- no-transaction
-- Brings the events, the relay's cursor and everything about them from the tables of before 0007 to
-- the schema `outbox`. No writer needs those tables any more, and the relay begins only afterwards.
--
-- One statement, which commits after each partition: whenever it is broken off, it goes on with the
-- partition where it was.
do $$
declare
    part regclass;
    legacy record;
begin
    -- The old table goes in the last transaction; only a migration that was not recorded repeats it.
    if to_regclass('outbox_legacy') is null then
        return;
    end if;
    for part in
        select inhrelid::regclass from pg_inherits
        where inhparent = 'outbox_legacy'::regclass order by inhrelid
    loop
        execute format(
            $copy$
            insert into outbox.event (id, event_id, aggregate_type, aggregate_id, event_type, version,
                                      payload, headers, created_at)
            select id, event_id, 'user', user_id::text, type, version, payload,
                   event_headers(traceparent), created_at
            from %s
            $copy$,
            part
        );
        execute format('drop table %s', part);
        commit;
    end loop;

    select * into legacy from relay_cursor_legacy;
    -- Its stream's name is known to the service, which sets it before its relay starts. Without a
    -- relay until now it has no stream, and the new one begins at the first event.
    insert into outbox.cursor (stream, aggregate_types, last_id, last_event_id, gaps,
                               stream_sequence, stream_event_id, complete_from, epoch)
    select '', '{user}', legacy.last_id,
           case when legacy.anchor_id = legacy.last_id then legacy.anchor_event_id end,
           legacy.gaps, legacy.stream_sequence, legacy.stream_event_id, legacy.complete_from,
           legacy.epoch
    where legacy.epoch > 0 or exists (select from republish_run);
    insert into outbox.checkpoint (stream, stream_sequence, stream_event_id, last_id, last_event_id,
                                   gaps, saved_at)
    select '', stream_sequence, stream_event_id, last_id,
           case when anchor_id = last_id then anchor_event_id end, gaps, saved_at
    from relay_checkpoint;
    insert into outbox.republish_run (stream, stream_sequence, last_key, last_id, started_at)
    select '', stream_sequence, last_user_id, last_outbox_id, started_at
    from republish_run order by id;
    insert into outbox.parked (id, event_id, aggregate_type, aggregate_id, event_type, version, payload,
                               headers, created_at, reason, attempts, parked_at)
    select id, event_id, 'user', user_id::text, type, version, payload,
           event_headers(traceparent), created_at, reason, attempts, parked_at
    from outbox_parked;
    update outbox.ledger set ledger_from = greatest(ledger_from, legacy.ledger_from);
    update outbox.lease set epoch = greatest(epoch, legacy.epoch);

    drop table outbox_legacy, relay_cursor_legacy, relay_checkpoint, republish_run, outbox_parked;
end
$$;
