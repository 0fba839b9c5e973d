//! Events that wait in the ledger with a version that an orphan has taken: their aggregate has been
//! restated above it, and on the stream versions only increase.

use std::collections::HashSet;

use postgres_pool::Pool;

use crate::ledger::Entry;

/// What the reader has to ask for.
#[derive(Debug)]
pub(in crate::relay) struct Superseded {
    stream: String,
    /// No event with a higher id is superseded.
    through: i64,
    /// Read, and not passed yet.
    marked: HashSet<i64>,
}

impl Superseded {
    /// `None` if nothing is superseded.
    pub(in crate::relay) async fn load(pool: &Pool, stream: &str) -> sqlx::Result<Option<Self>> {
        let through = sqlx::query_scalar!(
            r"select max(superseded_through) from outbox.orphan where stream = $1",
            stream,
        )
        .fetch_one(pool)
        .await?;
        Ok(through.map(|through| Self {
            stream: stream.to_owned(),
            through,
            marked: HashSet::new(),
        }))
    }

    /// Marks those that are not to be published.
    pub(in crate::relay) async fn mark(
        &mut self,
        pool: &Pool,
        entries: &mut [Entry],
    ) -> sqlx::Result<()> {
        let asked = |entry: &&Entry| entry.is_wanted && entry.id <= self.through;
        let ids: Vec<_> = entries.iter().filter(asked).map(|it| it.id).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let superseded = sqlx::query_scalar!(
            r#"
            select event.id as "id!"
            from unnest($2::bigint[]) as wanted (id)
            cross join lateral (
                select id, aggregate_type, aggregate_id, version
                from outbox.event where id = wanted.id offset 0
            ) as event
            join outbox.orphan on orphan.stream = $1
                and orphan.aggregate_type = event.aggregate_type
                and orphan.aggregate_id = event.aggregate_id
                and event.version <= orphan.version and event.id <= orphan.superseded_through
            "#,
            self.stream,
            &ids,
        )
        .fetch_all(pool)
        .await?;
        // They may have been read before, but not passed, since late ones came first.
        let known = self.marked.len();
        self.marked.extend(&superseded);
        let events = self.marked.len() - known;
        if events > 0 {
            tracing::info!(
                stream = self.stream,
                events,
                "events are superseded, since their aggregates were restated; not publishing them"
            );
        }
        for entry in entries.iter_mut() {
            entry.is_wanted &= !superseded.contains(&entry.id);
        }
        Ok(())
    }
    /// Whether an event that is passed now was marked.
    pub(in crate::relay) fn passes(&mut self, id: i64) -> bool {
        self.marked.remove(&id)
    }
}
