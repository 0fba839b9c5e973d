select id, event_id, aggregate_type, created_at, is_wanted as "is_wanted!",
       case when is_wanted then aggregate_id else '' end as "aggregate_id!",
       case when is_wanted then event_type else '' end as "event_type!",
       case when is_wanted then version end as version,
       case when is_wanted then payload::text else '' end as "payload!",
       case when is_wanted then headers::text end as headers
from (
    select *, sum(bytes) over (order by id rows between unbounded preceding and 1 preceding) as bytes_before
    from (
        select *,
               -- The factors: to how much less a value can shrink at best. What is known already counts for
               -- nothing, so there is room for a new one.
               case when is_wanted and id > $1 then
                   pg_column_size(payload)::bigint
                       * case pg_column_compression(payload) when 'pglz' then 90 when 'lz4' then 255 else 1 end
                   + coalesce(pg_column_size(headers), 0)
                       * case pg_column_compression(headers) when 'pglz' then 90 when 'lz4' then 255 else 1 end
               else 0 end as bytes
        from (
            select *, (aggregate_type = any ($3::text[])) <> $4::boolean as is_wanted
            from outbox.event
            where id >= $1 and ($5::text is null or outbox.database_identity() = $5)
            order by id limit $2
        ) as event
    ) as event
) as event
where coalesce(bytes_before, 0) < $6::bigint
order by id
