//! Readers that are known to fail.

use std::collections::BTreeSet;

use sqlx::PgPool;

use super::{Follow, Found};
use crate::{
    ledger::{self, Entry, Selection},
    relay::reader::{Reader, Watch},
};

/// `where id > last`
pub(super) struct Naive {
    pub(super) pool: PgPool,
    pub(super) last_id: i64,
}

impl Follow for Naive {
    async fn read(&mut self) -> Found {
        let all = Selection::AllBut(vec![]);
        let entries = ledger::read_from(&self.pool, self.last_id + 1, 1000, &all, None).await;
        let found: Vec<_> = entries
            .expect("a read")
            .iter()
            .map(|it: &Entry| it.id)
            .collect();
        self.last_id = found.last().copied().unwrap_or(self.last_id);
        found
    }
}

/// Our reader, but the bound of a gap is the xmax of the snapshot that showed it.
pub(super) struct EarlyBound(pub(super) Reader);

impl Follow for EarlyBound {
    async fn read(&mut self) -> Found {
        let xmax = "select pg_snapshot_xmax(pg_current_snapshot())::text::bigint";
        let bound = sqlx::query_scalar(xmax)
            .fetch_one(&self.0.pool)
            .await
            .expect("a snapshot");
        let found = self.0.read().await;
        let up_to = self.0.position.last_id();
        self.0.watch = (self.0.position.has_gaps()).then_some(Watch { up_to, bound });
        found
    }
}

/// Everything below the oldest open transaction, in the order of the xids.
pub(super) struct ByXid {
    pub(super) pool: PgPool,
    pub(super) seen: BTreeSet<i64>,
}

impl Follow for ByXid {
    async fn read(&mut self) -> Found {
        let ids: Vec<i64> = sqlx::query_scalar(
            r"
            select id from outbox.event
            where xmin::text::bigint < pg_snapshot_xmin(pg_current_snapshot())::text::bigint
            order by xmin::text::bigint, id
            ",
        )
        .fetch_all(&self.pool)
        .await
        .expect("a read");
        ids.into_iter().filter(|id| self.seen.insert(*id)).collect()
    }
}
