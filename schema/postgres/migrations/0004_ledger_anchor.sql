-- How the relay notices a ledger that was restored to an earlier state, and a view of what is
-- pending that does not read the whole ledger.

-- The migration gives up rather than let writers or the active relay queue behind it.
set local lock_timeout = '3s';

-- The event that the ledger had under the id `last_id`: if another is there now, or none, the ledger
-- lost that event and gives its id out again. `anchor_id` says which `last_id` it belongs to, since an
-- older relay moves `last_id` alone.
alter table relay_cursor add column anchor_id bigint, add column anchor_event_id uuid;
alter table relay_checkpoint add column anchor_id bigint, add column anchor_event_id uuid;

-- What is written but not yet on the stream. `offset 0` keeps each lookup a lookup: as a plain join
-- the planner would merge all partitions.
create or replace view outbox_pending as
select o.*
from relay_cursor c
cross join lateral (
    select * from outbox where id > c.last_id offset 0
) as o
union all
select o.*
from relay_cursor c
cross join unnest(c.gaps) as gap
cross join lateral (
    select * from outbox where id >= lower(gap) and id < upper(gap) offset 0
) as o;
