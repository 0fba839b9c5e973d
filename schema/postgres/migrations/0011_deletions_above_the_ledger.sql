-- A user who is not there is restated as deleted, at a version above that of the deletion in the ledger, if
-- it has one: on the stream versions only increase.

-- Appends an event for each of these users, at a version above the one named (0 if the copy has
-- nothing): the user's state, or the deletion of one who is not there. Users whose own version is too
-- low are raised; a deletion is above the one in the ledger as well, which nobody else remembers. What
-- became of each:
--     published
--     maybe_in_creation  left alone, because somebody may be creating this user: it would be born
--                        deleted. Ask again.
--     out_of_reach       left alone, because the id is more than a billion beyond those given out: to
--                        move the sequence there for one damaged id would use it up.
create or replace function restate_each(user_ids bigint[], versions bigint[])
returns table (user_id bigint, outcome text)
language plpgsql volatile set search_path from current as $$
declare
    reach  constant bigint := users_given_out() + 1000000000;
    absent constant bigint[] := array(
        select distinct wanted.id from unnest(user_ids) as wanted (id)
        where not exists (select from users where users.id = wanted.id)
    );
    within_reach constant bigint[] := array(select id from unnest(absent) as id where id <= reach);
    -- Absent for good.
    settled bigint[] := '{}';
    held    bigint[];
    present bigint[];
begin
    if within_reach <> '{}' then
        perform move_users_id_seq((select max(id) from unnest(within_reach) as id));
        -- Before any lock on users, so that two of these do not wait for each other.
        if creations_have_ended() then
            settled := within_reach;
        end if;
    end if;

    -- Each who is not there is held by a row that nobody else will ever see: its insertion waits for
    -- whoever is deleting the user right now.
    with held_now as (
        insert into users (id, name, email) overriding system value
        select distinct id, '', gen_random_uuid()::text from unnest(user_ids) as id
        where id <> all (absent) or id = any (settled)
        order by id
        on conflict (id) do nothing
        returning id
    )
    select coalesce(array_agg(id), '{}') into held from held_now;

    with wanted as (
        select id, max(version) as version from unnest(user_ids, versions) as wanted (id, version)
        group by id
    ), present_now as (
        select id from users where id = any (user_ids) and id <> all (held)
        order by id for no key update
    ), raised as (
        update users set version = greatest(users.version, wanted.version + 1)
        from present_now join wanted using (id)
        where users.id = present_now.id
        returning users.id, users.version, user_state(users, users.version, users.updated_at) as state
    ), event as (
        insert into outbox.event (aggregate_type, aggregate_id, event_type, version, payload, headers)
        select 'user', id::text, 'user_updated', version, state, event_headers(null) from raised
    )
    select coalesce(array_agg(id), '{}') into present from raised;

    with wanted as (
        select id, max(version) as version from unnest(user_ids, versions) as wanted (id, version)
        where id = any (held)
        group by id
    ), known as (
        -- Whoever was deleting one of them has committed by now.
        select aggregate_id::bigint as id, version from outbox.known_versions('user', held::text[])
        where held <> '{}'
    ), placeholder as (
        delete from users where id = any (held) returning id
    ), deleted as (
        -- Nothing else is known of them but their ids.
        select id, greatest(wanted.version, known.version) + 1 as version,
               jsonb_populate_record(
                   null::users, jsonb_build_object('id', id, 'name', '', 'email', '')
               ) as "user"
        from placeholder join wanted using (id) left join known using (id)
    )
    insert into outbox.event (aggregate_type, aggregate_id, event_type, version, payload, headers)
    select 'user', id::text, 'user_deleted', version, user_state("user", version, clock_timestamp()),
           event_headers(null)
    from deleted;

    return query select id, 'published' from unnest(present || held) as id;
    return query
        select id, case when id <= reach then 'maybe_in_creation' else 'out_of_reach' end
        from unnest(absent) as id where id <> all (present || held);
end
$$;
