//! Where the consumer's position is kept, to notice events that left the stream unread.

use event_consumer::holes::{Position, PositionStore, StoredPosition};
use postgres_pool::Pool;
use sqlx::types::Json;

/// A row of `stream_position`.
#[derive(Debug, Clone)]
pub(crate) struct PositionRow {
    pool: Pool,
    consumer: String,
}

impl PositionRow {
    pub(crate) fn new(pool: Pool, consumer: String) -> Self {
        Self { pool, consumer }
    }
}

impl PositionStore for PositionRow {
    async fn load(&self) -> anyhow::Result<Option<StoredPosition>> {
        let stored = sqlx::query!(
            r#"
            select position as "position: Json<Position>", revision
            from stream_position
            where consumer = $1
            "#,
            self.consumer,
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(stored.map(|stored| StoredPosition {
            position: stored.position.0,
            revision: stored.revision,
        }))
    }

    async fn server(&self) -> anyhow::Result<Option<String>> {
        let server = sqlx::query_scalar!(
            r#"
            select concat_ws(' ', inet_server_addr(), inet_server_port(), pg_postmaster_start_time())
                as "server!"
            "#
        );
        Ok(Some(server.fetch_one(&self.pool).await?))
    }

    async fn save(&self, stored: &StoredPosition, expected: Option<i64>) -> anyhow::Result<bool> {
        let position = Json(&stored.position);
        let saved = match expected {
            None => {
                sqlx::query!(
                    "insert into stream_position (consumer, revision, position)
                     values ($1, $2, $3) on conflict do nothing",
                    self.consumer,
                    stored.revision,
                    position as _,
                )
                .execute(&self.pool)
                .await?
            }
            Some(revision) => {
                sqlx::query!(
                    "update stream_position set position = $3, revision = $4
                     where consumer = $1 and revision = $2",
                    self.consumer,
                    revision,
                    position as _,
                    stored.revision,
                )
                .execute(&self.pool)
                .await?
            }
        };
        Ok(saved.rows_affected() == 1)
    }
}
