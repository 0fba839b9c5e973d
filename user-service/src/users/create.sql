with created as (
    insert into users (name, email) values ($3, $4)
    returning id, name, email, updated_at, version
), event as (
    insert into outbox (event_id, type, user_id, version, payload, traceparent)
    select $1, 'user_created', id, version,
           user_state(id, name, email, updated_at, version), $2
    from created
)
select * from created
