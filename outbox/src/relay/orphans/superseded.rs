//! Events that wait in the ledger with a version that an orphan has taken: their aggregate has been
//! restated above it, and on the stream versions only increase.

use metrics::Counter;
use postgres_pool::Pool;

use crate::{ledger::Entry, metrics::StreamMetrics};

/// What the reader has to ask for.
#[derive(Debug)]
pub(in crate::relay) struct Superseded {
    stream: String,
    /// No event with a higher id is superseded.
    through: i64,
    counter: Counter,
}

impl Superseded {
    /// `None` if nothing is superseded.
    pub(in crate::relay) async fn load(
        pool: &Pool,
        stream: &str,
        metrics: &StreamMetrics,
    ) -> sqlx::Result<Option<Self>> {
        let through = sqlx::query_scalar!(
            r"select max(superseded_through) from outbox.orphan where stream = $1",
            stream,
        )
        .fetch_one(pool)
        .await?;
        Ok(through.map(|through| Self {
            stream: stream.to_owned(),
            through,
            counter: metrics.superseded.clone(),
        }))
    }

    /// Marks those that are not to be published.
    pub(in crate::relay) async fn mark(
        &self,
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
        if !superseded.is_empty() {
            self.counter.increment(superseded.len() as u64);
            tracing::info!(
                stream = self.stream,
                events = superseded.len(),
                "events are superseded, since their aggregates were restated; not publishing them"
            );
        }
        for entry in entries.iter_mut() {
            entry.is_wanted &= !superseded.contains(&entry.id);
        }
        Ok(())
    }
}
