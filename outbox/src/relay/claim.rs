//! One database publishes to a stream. Which one stands in the stream's metadata; a relay with another
//! one refuses, or takes the stream over, before it publishes anything.

use std::{
    convert::Infallible,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_nats::{Client, RequestErrorKind, jetstream::Context};
use chrono::Utc;
use futures::StreamExt;
use postgres_pool::Pool;
use service_runtime::{
    nats::stream::{LedgerIdentity, StreamMetadata},
    progress::Progress,
};
use tokio::time::{Instant, sleep, timeout};

use super::{
    failure::Failure, identity, owned::Owned, stream_info, stream_metadata::MetadataWriter,
};

/// How often an active relay looks who is named, one that waits asks, and one that can't listen for questions tries again.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// So long after a relay has entered itself, the one that was active has noticed if it reaches the
/// server: it looks every second.
const TAKE_OVER_PAUSE: Duration = CHECK_INTERVAL.saturating_mul(2);
/// How long the active relay may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// For so long nobody must answer before another database of the same ledger takes over: the relay
/// that was active may be starting again, or connecting to NATS.
const SILENCE: Duration = Duration::from_secs(10);

/// The database for which a relay publishes, as it answers those who ask.
#[derive(Debug, Default)]
pub(super) struct Claimed(Mutex<Option<LedgerIdentity>>);

/// What a relay needs to claim a stream.
pub(super) struct Claim<'a> {
    pub(super) client: &'a Client,
    pub(super) jetstream: &'a Context,
    pub(super) pool: &'a Pool,
    pub(super) owned: &'a Owned,
    pub(super) metadata: &'a MetadataWriter,
    pub(super) progress: &'a Progress,
}

/// What the database says of the stream.
struct Known {
    mine: LedgerIdentity,
    adopts: bool,
    /// The database that its relay was active with before.
    before: Option<LedgerIdentity>,
}

/// The stream may be published to.
#[derive(Debug)]
pub(super) struct Permission {
    mine: LedgerIdentity,
    /// Who is named now.
    named: Option<LedgerIdentity>,
    adopts: bool,
}

impl Claimed {
    pub(super) fn set(&self, identity: Option<LedgerIdentity>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = identity;
    }

    fn get(&self) -> Option<LedgerIdentity> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Tells relays that ask who publishes to the stream.
    pub(super) async fn answer(&self, client: &Client, stream: &str) -> Infallible {
        loop {
            let Ok(mut questions) = client.subscribe(subject(stream)).await else {
                sleep(CHECK_INTERVAL).await;
                continue;
            };
            while let Some(question) = questions.next().await {
                if let (Some(reply), Some(mine)) = (question.reply, self.get()) {
                    // Who gets no answer asks again, or looks at the metadata.
                    let answered = client.publish(reply, mine.to_string().into());
                    let _ = timeout(ANSWER_TIMEOUT, answered).await;
                }
            }
            sleep(CHECK_INTERVAL).await;
        }
    }
}

impl Claim<'_> {
    /// Refuses if the stream belongs to another ledger, or to a promoted standby of this database, or
    /// if a relay with another database of this ledger is active. Changes nothing.
    ///
    /// A relay that is named in the metadata may only be away for a moment: another database of the same
    /// ledger waits until nobody has answered for some time, unless it is the promoted one.
    pub(super) async fn ask(&self) -> Result<Permission, Failure> {
        let Known {
            mine,
            adopts,
            before,
        } = self.known().await?;
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
            && !adopts
            && let Some(reason) = identity::objection(mine, named)
        {
            return Err(self.foreign(mine, named, reason));
        }
        // A stream that was lost has lost its metadata too; the database knows who was active.
        let before = named.as_ref().or(before.as_ref());
        let is_successor =
            before.is_none_or(|before| before == mine || identity::supersedes(mine, before));
        let patience = match adopts || is_successor {
            true => Duration::ZERO,
            false => SILENCE,
        };
        self.await_silence(mine, patience).await?;
        Ok(permission)
    }

    /// Asks who is active until nobody has answered for as long as this, once at least.
    async fn await_silence(
        &self,
        mine: &LedgerIdentity,
        patience: Duration,
    ) -> Result<(), Failure> {
        let until = Instant::now() + patience;
        let mut has_told = false;
        loop {
            if let Some(active) = self.active().await?
                && active != *mine
                && !identity::supersedes(mine, &active)
            {
                let reason = "a relay with another database is active";
                return Err(self.foreign(mine, &active, reason));
            }
            if Instant::now() >= until {
                return Ok(());
            }
            if !std::mem::replace(&mut has_told, true) {
                tracing::info!(
                    stream = self.owned.stream,
                    for_seconds = patience.as_secs(),
                    until = %(Utc::now() + patience),
                    "not publishing yet: the stream belongs to another database of this ledger, whose \
                     relay may be starting again; taking the stream over unless it answers meanwhile"
                );
            }
            self.progress.attempted();
            sleep(CHECK_INTERVAL).await;
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
            self.check(&mine, &self.metadata.read().await?)?;
        }
        if adopts {
            self.end_adoption().await?;
        }
        Ok(mine)
    }

    /// Fails if another relay has taken the stream over.
    pub(super) fn check(
        &self,
        mine: &LedgerIdentity,
        metadata: &StreamMetadata,
    ) -> Result<(), Failure> {
        match &metadata.ledger {
            Some(other) if other != mine => {
                Err(self.foreign(mine, other, "another relay has taken it over"))
            }
            _ => Ok(()),
        }
    }

    async fn known(&self) -> Result<Known, Failure> {
        let row = sqlx::query!(
            r#"
            select ledger_id::text as "ledger_id!", adopts, database_identity
            from outbox.cursor, outbox.ledger
            where stream = $1 and epoch = $2 and session = $4 and outbox.database_identity() = $3
            "#,
            self.owned.stream,
            self.owned.epoch,
            self.owned.identity,
            self.owned.session,
        )
        .fetch_optional(self.pool)
        .await?
        .ok_or(Failure::SessionOver)?;
        let of = |database| LedgerIdentity {
            ledger_id: row.ledger_id.clone(),
            database,
        };
        Ok(Known {
            mine: of(self.owned.identity.clone()),
            adopts: row.adopts,
            before: row.database_identity.map(of),
        })
    }

    /// Who is named in the metadata of the stream, if there is one.
    async fn named(&self) -> Result<Option<LedgerIdentity>, Failure> {
        let found = stream_info::find(self.jetstream, &self.owned.stream).await?;
        Ok(found.and_then(|info| StreamMetadata::of(&info).ledger))
    }

    /// The relay that publishes to the stream now. Without one, the server says so at once; one that does
    /// not answer in time does not work.
    async fn active(&self) -> Result<Option<LedgerIdentity>, Failure> {
        let asking = (self.client).request(subject(&self.owned.stream), "".into());
        let Ok(answer) = timeout(ANSWER_TIMEOUT, asking).await else {
            return Ok(None);
        };
        match answer {
            Ok(answer) => Ok(std::str::from_utf8(&answer.payload)
                .ok()
                .and_then(LedgerIdentity::parse)),
            Err(error) if error.kind() == RequestErrorKind::NoResponders => Ok(None),
            Err(error) => Err(Failure::JetStream(error.to_string())),
        }
    }

    async fn end_adoption(&self) -> Result<(), Failure> {
        sqlx::query!(
            r"
            -- Of ids below `ledger_from` nobody can tell whose they were.
            update outbox.cursor set adopts = false, unreconciled_since = case
                when ledger_from > 1 then coalesce(unreconciled_since, clock_timestamp())
                else unreconciled_since
            end
            from outbox.ledger
            where stream = $1 and epoch = $2 and session = $4 and outbox.database_identity() = $3
            ",
            self.owned.stream,
            self.owned.epoch,
            self.owned.identity,
            self.owned.session,
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
