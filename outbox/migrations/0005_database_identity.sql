-- The identity of the database is asked for by each statement of the relay that must come to no other one.
-- It took longer than most of them: what can't change while a session lasts is asked once in it now, and
-- kept in a setting of the session. (A setting can't be changed by a parallel query.)
create or replace function outbox.database_identity() returns text
language plpgsql stable parallel unsafe as $$
declare
    -- `system/%s/database`, or `system/0/database` for a role that must not ask for the timeline.
    identity text := current_setting('outbox.database_identity', true);
    system   bigint := 0;
begin
    if coalesce(identity, '') = '' then
        if has_function_privilege('pg_control_system()', 'execute') then
            system := (select system_identifier from pg_control_system());
        end if;
        identity := format(
            '%s/%s/%s', system,
            case when has_function_privilege('pg_current_wal_lsn()', 'execute')
                and has_function_privilege('pg_walfile_name(pg_lsn)', 'execute')
            then '%s' else '0' end,
            (select oid from pg_database where datname = current_database())
        );
        perform set_config('outbox.database_identity', identity, false);
    end if;
    -- A standby may be promoted while the session lasts.
    if pg_is_in_recovery() then
        return format(identity, 0);
    end if;
    if identity like '%/0/%' then
        return identity;
    end if;
    -- The control file has the new timeline only after the first checkpoint.
    return format(
        identity, ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer
    );
end
$$;
