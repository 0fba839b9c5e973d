select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as "horizon!",
       filled.id as "id?", filled.event_id as "event_id?", filled.aggregate_type as "aggregate_type?",
       filled.created_at as "created_at?", filled.is_wanted as "is_wanted?",
       case when is_wanted then filled.aggregate_id else '' end as "aggregate_id?",
       case when is_wanted then filled.event_type else '' end as "event_type?",
       case when is_wanted then filled.version end as "version?",
       case when is_wanted then filled.payload::text else '' end as "payload?",
       case when is_wanted then filled.headers::text end as headers
from (select) as always
left join (
    select found.*, (aggregate_type = any ($3::text[])) <> $4::boolean as is_wanted
    from unnest($1::int8range[]) with ordinality as gap (ids, number)
    cross join lateral (
        select * from outbox.event where id >= lower(ids) and id < upper(ids)
        order by id limit $2
    ) as found
    order by number, id limit $2
) as filled on true
where $5::text is null or outbox.database_identity() = $5
