with draft as (
    select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[])
        as draft (event_id, traceparent, name, email)
), created as (
    insert into users (name, email)
    -- All writers take the addresses in one order, so that no two wait for each other.
    select name, email from draft order by lower(email)
    on conflict (lower(email)) do nothing
    returning id, name, email, updated_at, version
), event as (
    insert into outbox (event_id, type, user_id, version, payload, traceparent)
    select event_id, 'user_created', id, version,
           user_state(id, created.name, email, updated_at, version), traceparent
    from created join draft using (email)
)
select * from created
