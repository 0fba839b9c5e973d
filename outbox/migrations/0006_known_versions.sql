-- The highest version that the newest 100,000 events have of each of these aggregates. For functions that
-- restate an aggregate that is not there any more: its deletion, which nobody else remembers, may have a
-- higher version than what the stream has of it. (An older deletion is known to consumers by its own event.)
create function outbox.known_versions(aggregate_type text, aggregate_ids text[])
returns table (aggregate_id text, version bigint)
language sql stable parallel safe
begin atomic
    select newest.aggregate_id, max(newest.version)
    from (select * from outbox.event order by id desc limit 100000) as newest
    where newest.aggregate_type = known_versions.aggregate_type
        and newest.aggregate_id = any (known_versions.aggregate_ids)
    group by newest.aggregate_id;
end;
