//! One database publishes to a stream. Which one stands in the stream's metadata; a relay with another
//! one refuses, or takes the stream over, before it publishes anything.

use std::time::Duration;

use async_nats::{
    Client,
    jetstream::{Context, ErrorCode, context::GetStreamErrorKind},
};
use futures::StreamExt;
use postgres_pool::Pool;
use service_runtime::nats::stream::{LedgerIdentity, StreamMetadata};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{
    STREAM_TIMEOUT,
    cursor::Owned,
    failure::{Failure, within},
    identity,
    stream_metadata::MetadataWriter,
};

/// How often an active relay looks whether another one has taken the stream over.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// So long after that, a relay that was active and reaches the server has noticed.
const TAKE_OVER_PAUSE: Duration = Duration::from_secs(2);
/// How long the active relay may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// What a relay needs to claim a stream.
pub(super) struct Claim<'a> {
    pub(super) client: &'a Client,
    pub(super) jetstream: &'a Context,
    pub(super) pool: &'a Pool,
    pub(super) owned: &'a Owned,
    pub(super) metadata: &'a MetadataWriter,
}

/// The stream may be published to.
#[derive(Debug)]
pub(super) struct Permission {
    mine: LedgerIdentity,
    /// Who is named now.
    named: Option<LedgerIdentity>,
    adopts: bool,
}

impl Claim<'_> {
    /// Refuses if the stream belongs to another ledger, or if a relay with another database of this
    /// one is active. Changes nothing.
    pub(super) async fn ask(&self) -> Result<Permission, Failure> {
        let (mine, adopts) = self.identity().await?;
        let named = self.named().await?;
        let permission = Permission {
            mine,
            named,
            adopts,
        };
        let Permission { mine, named, .. } = &permission;
        if named.as_ref() == Some(mine) {
            return Ok(permission);
        }
        if let Some(named) = named
            && named.ledger_id != mine.ledger_id
            && !adopts
        {
            return Err(self.foreign(mine, named, "it belongs to another ledger"));
        }
        match self.active().await {
            Some(active) if active != *mine && !identity::supersedes(mine, &active) => {
                Err(self.foreign(mine, &active, "a relay with another database is active"))
            }
            _ => Ok(permission),
        }
    }

    /// Enters this database into the metadata. If another one was named, its relay gets the time to
    /// notice, so that what it has published by then is looked up.
    pub(super) async fn take(&self, permission: Permission) -> Result<LedgerIdentity, Failure> {
        let Permission {
            mine,
            named,
            adopts,
        } = permission;
        let entered = mine.clone();
        let change = |metadata: &mut StreamMetadata| metadata.ledger = Some(entered);
        self.metadata.change(change).await?;
        if let Some(named) = named.filter(|it| *it != mine) {
            tracing::warn!(
                stream = self.owned.stream,
                from = %named,
                to = %mine,
                "another database takes over the stream"
            );
            sleep(TAKE_OVER_PAUSE).await;
            if let Some(other) = self.other(&mine).await? {
                return Err(self.foreign(&mine, &other, "another relay has taken it over"));
            }
        }
        if adopts {
            self.end_adoption().await?;
        }
        Ok(mine)
    }

    /// Tells relays that ask who is active, until another one has taken the stream over.
    pub(super) async fn defend(&self, mine: &LedgerIdentity) -> Failure {
        let mut questions = match self.client.subscribe(subject(&self.owned.stream)).await {
            Ok(questions) => questions,
            Err(error) => return Failure::JetStream(error.to_string()),
        };
        let mut check_at = Instant::now();
        loop {
            tokio::select! {
                Some(question) = questions.next() => {
                    if let Some(reply) = question.reply {
                        // Who gets no answer asks the metadata.
                        let answered = self.client.publish(reply, mine.to_string().into());
                        let _ = timeout(ANSWER_TIMEOUT, answered).await;
                    }
                }
                () = sleep_until(check_at) => {
                    // A stream that can't be reached is noticed by those who publish to it.
                    if let Ok(Some(other)) = self.other(mine).await {
                        return self.foreign(mine, &other, "another relay has taken it over");
                    }
                    check_at = Instant::now() + CHECK_INTERVAL;
                }
            }
        }
    }

    async fn identity(&self) -> Result<(LedgerIdentity, bool), Failure> {
        let row = sqlx::query!(
            r#"
            select ledger_id::text as "ledger_id!", adopts
            from outbox.cursor, outbox.ledger
            where stream = $1 and epoch = $2 and outbox.database_identity() = $3
            "#,
            self.owned.stream,
            self.owned.epoch,
            self.owned.identity,
        )
        .fetch_optional(self.pool)
        .await?
        .ok_or(Failure::LeaseLost)?;
        let mine = LedgerIdentity {
            ledger_id: row.ledger_id,
            database: self.owned.identity.clone(),
        };
        Ok((mine, row.adopts))
    }

    /// Who is named in the metadata of the stream, if there is one.
    async fn named(&self) -> Result<Option<LedgerIdentity>, Failure> {
        let asking = async {
            match self.jetstream.get_stream(&self.owned.stream).await {
                Ok(stream) => Ok(StreamMetadata::of(stream.cached_info()).ledger),
                Err(error) => match error.kind() {
                    GetStreamErrorKind::JetStream(error)
                        if error.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                    {
                        Ok(None)
                    }
                    _ => Err(Failure::JetStream(error.to_string())),
                },
            }
        };
        within(STREAM_TIMEOUT, asking).await
    }

    async fn other(&self, mine: &LedgerIdentity) -> Result<Option<LedgerIdentity>, Failure> {
        let named = self.metadata.read().await?.ledger;
        Ok(named.filter(|it| it != mine))
    }

    /// The relay that publishes to the stream now. Without one, the server says so at once.
    async fn active(&self) -> Option<LedgerIdentity> {
        let asking = (self.client).request(subject(&self.owned.stream), "".into());
        let answer = timeout(ANSWER_TIMEOUT, asking).await.ok()?.ok()?;
        identity::parse(std::str::from_utf8(&answer.payload).ok()?)
    }

    async fn end_adoption(&self) -> Result<(), Failure> {
        sqlx::query!(
            r"
            update outbox.cursor set adopts = false
            where stream = $1 and epoch = $2 and outbox.database_identity() = $3
            ",
            self.owned.stream,
            self.owned.epoch,
            self.owned.identity,
        )
        .execute(self.pool)
        .await?;
        Ok(())
    }

    fn foreign(&self, mine: &LedgerIdentity, other: &LedgerIdentity, reason: &str) -> Failure {
        let stream = &self.owned.stream;
        Failure::Foreign(format!(
            "{reason}: ledger and database of this relay are {mine}, of the other {other}. If this \
             one is to publish to the stream, stop the other and run `outbox-relay adopt {stream}`"
        ))
    }
}

/// Where the active relay answers.
fn subject(stream: &str) -> String {
    format!("outbox.relay.{stream}")
}
