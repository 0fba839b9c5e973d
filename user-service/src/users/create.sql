with draft as (
    select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[])
        as draft (event_id, headers, name, email, normal_email)
), created as (
    insert into users (name, email, normal_email)
    -- All writers take the addresses in one order, so that no two wait for each other.
    select name, email, normal_email from draft order by normal_email collate "C"
    -- Whichever index has the address: the one of the normal form or that of older releases.
    on conflict do nothing
    returning users.*, user_state(users, version, updated_at) as state
), event as (
    insert into outbox.event (event_id, aggregate_type, aggregate_id, event_type, version,
                              payload, headers)
    select event_id, 'user', id::text, 'user_created', version, state, draft.headers::json
    from created join draft using (normal_email)
)
select id as "id!", name as "name!", email as "email!", updated_at as "updated_at!",
       version as "version!"
from created
