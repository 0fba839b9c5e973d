select drawn.id as "drawn_id!", event.id as "id?", event_id as "event_id?",
       aggregate_type as "aggregate_type?", aggregate_id as "aggregate_id?",
       event_type as "event_type?", version as "version?", created_at as "created_at?"
from (
    select coalesce(pg_sequence_last_value('outbox.event_id_seq'), 0) as id offset 0
) as drawn
left join lateral (
    (
        select * from outbox.event where id > $1 and drawn.id > $1
        order by id desc limit $3
    )
    union all
    (
        select late.* from unnest($2::int8range[]) as gap
        cross join lateral (
            select * from outbox.event where id >= lower(gap) and id < upper(gap)
            order by id limit $3
        ) as late
        limit $3
    )
) as event on true
order by event.id
