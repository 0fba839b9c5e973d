-- Publishing the present state of users above what a copy has of them. `POST /users/republish` does so
-- for users who differ, and the relay for those of whom the stream has events that the ledger has not.

-- The greatest id that was given out; 0 if none was.
create function users_given_out() returns bigint language sql volatile
return (select last_value - (not is_called)::int from users_id_seq);

-- Moves the sequence beyond `id`, never back; the last id that it counts as given out now, null if it
-- was there already. The room is for ids that clients were told and that nothing here knows any more.
create function move_users_id_seq(beyond bigint) returns bigint
language plpgsql volatile set search_path from current as $$
begin
    if users_given_out() >= beyond then
        return null;
    end if;
    -- Of two at once, one could move it back.
    perform pg_advisory_xact_lock(hashtextextended('users_id_seq', 0));
    if users_given_out() >= beyond then
        return null;
    end if;
    -- Others may have drawn ids meanwhile.
    return setval('users_id_seq', greatest(beyond, nextval('users_id_seq')) + 10000);
end
$$;

-- A restore or a replication may leave the sequence behind the users. Moves it beyond them, and beyond
-- those of the newest events: an id that is given out again would belong to two users of a copy. Null if
-- there is nothing to move.
--
-- Costs two look-ups if no user is beyond the sequence. `thorough` looks at the events in any case: a
-- creation that meets an id in use has drawn ids, and may have come to the last user's.
create function repair_users_id_seq(thorough boolean) returns bigint
language plpgsql volatile set search_path from current as $$
declare
    last_user_id constant bigint := coalesce((select max(id) from users), 0);
begin
    if not thorough and last_user_id <= users_given_out() then
        return null;
    end if;
    return move_users_id_seq(greatest(last_user_id, (
        -- Ids above this have no event that a consumer takes.
        select max(user_id) filter (where user_id <= 4611686018427387903)
        from (
            select case when aggregate_id ~ '^[1-9][0-9]{0,18}$' then aggregate_id::numeric end as user_id
            from (
                select aggregate_type, aggregate_id from outbox.event order by id desc limit 100000
            ) as newest
            where aggregate_type = 'user'
        ) as known
    )::bigint));
end
$$;

-- Waits, for 3 seconds at most, until every transaction has ended that may be creating a user with an
-- id that was given out by now; whether they have.
--
-- An id is drawn before its row is there: a creation may wait for its e-mail address in between,
-- without a transaction id and without a row that others could wait for. But it holds a lock on the
-- table from before it draws the id until it ends.
create function creations_have_ended() returns boolean
language plpgsql volatile set search_path from current as $$
declare
    give_up_at constant timestamptz := clock_timestamp() + interval '3 s';
    creating text[];
    still text[];
begin
    loop
        still := array(
            select virtualtransaction from pg_locks
            where locktype = 'relation' and relation = 'users'::regclass and granted
                and database = (select oid from pg_database where datname = current_database())
                and mode = 'RowExclusiveLock' and pid is distinct from pg_backend_pid()
        );
        creating := case when creating is null then still else array(
            select unnest(creating) intersect select unnest(still)
        ) end;
        if creating = '{}' then
            return true;
        end if;
        if clock_timestamp() > give_up_at then
            return false;
        end if;
        perform pg_sleep(0.02);
    end loop;
end
$$;

-- Appends an event for each of these users, at a version above the one named (0 if the copy has
-- nothing): the user's state, or the deletion of one who is not there. Users whose own version is too
-- low are raised. What became of each:
--     published
--     maybe_in_creation  left alone, because somebody may be creating this user: it would be born
--                        deleted. Ask again.
--     out_of_reach       left alone, because the id is more than a billion beyond those given out: to
--                        move the sequence there for one damaged id would use it up.
create function restate_each(user_ids bigint[], versions bigint[])
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
        group by id
    ), placeholder as (
        delete from users where id = any (held) returning id
    ), deleted as (
        -- Nothing is known of them but their ids.
        select id, version + 1 as version,
               jsonb_populate_record(
                   null::users, jsonb_build_object('id', id, 'name', '', 'email', '')
               ) as "user"
        from placeholder join wanted using (id)
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

-- The same as the relay asks for it: the ids of those who were published. The others it asks for again.
-- Fails for ids and versions that no user can have, so that nobody waits for these.
create function restate_users(aggregate_ids text[], versions bigint[]) returns setof text
language plpgsql volatile set search_path from current as $$
declare
    -- The greatest id of a user. Of versions consumers take as many; but a claimed one must leave room for
    -- changes that come after it.
    max_id      constant bigint := 4611686018427387903;
    max_version constant bigint := 9007199254740992;
    reach       constant bigint := users_given_out() + 1000000000;
    user_ids    bigint[];
    above       bigint[];
    no_user     text;
begin
    with wanted as (
        select aggregate_id, coalesce(greatest(version, 0), 0) as version,
               case when aggregate_id ~ '^[1-9][0-9]{0,18}$' then aggregate_id::numeric end as id
        from unnest(aggregate_ids, versions) as wanted (aggregate_id, version)
    ), checked as (
        select *, coalesce(
            id <= least(max_id, greatest(reach, (select max(users.id) from users)))
                and version <= max_version,
            false
        ) as is_user
        from wanted
    )
    select coalesce(array_agg(id) filter (where is_user), '{}'),
           coalesce(array_agg(version) filter (where is_user), '{}'),
           min(aggregate_id) filter (where not is_user)
    into user_ids, above, no_user
    from checked;
    if no_user is not null then
        raise exception using errcode = 'data_exception', message = format(
            'no user can have the id %s, or the version that was claimed', no_user
        );
    end if;
    return query
        select user_id::text from restate_each(user_ids, above) where outcome = 'published';
end
$$;

insert into outbox.aggregate (aggregate_type, restate)
select 'user', format('%I.restate_users', pronamespace::regnamespace)
from pg_proc where oid = 'restate_users'::regproc;
