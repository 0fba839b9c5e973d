-- Waits with short pauses after an event and with longer ones after silence. Returns true once there is
-- an event with an id above `last_id` or in one of `gaps`, false after `timeout`: producers wake the
-- relay by committing, and need send nothing.
--
-- `silence` is the time since an event last ended such a wait. A pause is one hundredth of it, at least
-- 1 ms and at most 16 ms. So the wait adds about a hundredth to the time between two events, an event is
-- followed by 350 looks at most until the pauses are at their longest, and an idle relay looks 62 times
-- a second. Relays of earlier releases do not name it.
--
-- While no ids are drawn it costs a look at the sequence after each pause. Only if that shows an id that
-- is not known yet, or if ids are missing, it looks at the ledger; again only when a transaction has
-- ended since, without which nothing can have become visible; and for a twentieth of the time at most.
-- Each statement has a snapshot of its own, because the function is volatile.
--
-- The locks of a look would be held until the caller's statement ends. Then attaching or dropping a
-- partition would have to wait, and all writers behind it. So each look is rolled back.
drop function outbox.wait_for_event(bigint, int8range[], interval);

create function outbox.wait_for_event(
    last_id bigint, gaps int8range[], timeout interval, silence interval default '1 second'
) returns boolean language plpgsql volatile parallel unsafe as $$
declare
    give_up_at constant timestamptz := clock_timestamp() + timeout;
    -- `pg_sleep` rounds up to whole milliseconds, and a little above one is two.
    longest    constant double precision := 0.0155;
    pause      double precision := least(0.0005 + extract(epoch from silence) / 100, longest);
    rest       double precision;
    looks_from timestamptz;
    drawn_id   bigint;
    snapshot   text;
    looked_at  text;
    is_there   boolean := false;
    has_paused boolean;
begin
    loop
        rest := pause;
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
                rest := greatest(pause, 20 * extract(epoch from clock_timestamp() - looks_from));
            end if;
        end if;
        if clock_timestamp() >= give_up_at then
            return false;
        end if;
        -- An expression costs less than `perform`, which is a statement.
        has_paused := pg_sleep(rest) is not null;
        -- The silence is longer by a pause now, which is a hundredth of it.
        pause := least(pause * 1.01::double precision, longest);
    end loop;
end
$$;
