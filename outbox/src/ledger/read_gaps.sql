select case when seqcache = 1 then pg_snapshot_xmin(pg_current_snapshot())::text::bigint else 0 end as "horizon!",
       filled.found as "found?",
       filled.id as "id?", filled.event_id as "event_id?", filled.aggregate_type as "aggregate_type?",
       filled.created_at as "created_at?", filled.is_wanted as "is_wanted?",
       case when is_wanted then filled.aggregate_id else '' end as "aggregate_id?",
       case when is_wanted then filled.event_type else '' end as "event_type?",
       case when is_wanted then filled.version end as "version?",
       case when is_wanted then filled.payload::text else '' end as "payload?",
       case when is_wanted then filled.headers::text end as headers
from pg_sequence
left join (
    select *, count(*) over () as found,
           sum(bytes) over (order by number, id rows between unbounded preceding and 1 preceding) as bytes_before
    from (
        select *,
               case when is_wanted then
                   pg_column_size(payload)::bigint
                       * case pg_column_compression(payload) when 'pglz' then 90 when 'lz4' then 255 else 1 end
                   + coalesce(pg_column_size(headers), 0)
                       * case pg_column_compression(headers) when 'pglz' then 90 when 'lz4' then 255 else 1 end
               else 0 end as bytes
        from (
            select found.*, number, (aggregate_type = any ($3::text[])) <> $4::boolean as is_wanted
            from unnest($1::int8range[]) with ordinality as gap (ids, number)
            cross join lateral (
                select * from outbox.event where id >= lower(ids) and id < upper(ids)
                order by id limit $2
            ) as found
            order by number, id limit $2
        ) as found
    ) as found
) as filled on coalesce(bytes_before, 0) < $6::bigint
where seqrelid = 'outbox.event_id_seq'::regclass and ($5::text is null or outbox.database_identity() = $5)
order by number, id
