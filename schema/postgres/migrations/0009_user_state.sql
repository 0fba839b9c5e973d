-- The one place that knows which fields of a user its events carry. A field that is added later changes
-- this function and its type, and no statement that writes events; and releases that do not know the
-- field publish it all the same, because they call the same function.

-- Not user_payload, which the function of releases before this migration returns.
create type user_event_state as (
    id bigint, name text, email text, updated_at text, version bigint
);

-- Version and time are parameters, because the row of a user who is being deleted has not those of the
-- deletion.
create function user_state(present users, version bigint, updated_at timestamptz) returns json
language sql stable
return row_to_json(row(
    (present).id, (present).name, (present).email,
    to_char(updated_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
    version
)::user_event_state);
