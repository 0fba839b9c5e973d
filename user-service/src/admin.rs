//! What an operator does from the command line.

use std::time::Duration;

use anyhow::{Context, bail};
use indicatif::ProgressBar;
use outbox::{
    admin,
    inspect::{self, Backlog},
    republish_run::{self, Progress, Run},
};
use postgres_pool::{Pool, STATEMENT_TIMEOUT};
use service_runtime::terminal::progress_bar;
use tokio::time::Instant;

use crate::{
    config::{OutboxCommand, OutboxConfig, RepublishConfig},
    migrations::claim_cursor,
    users,
};

/// Users republished in one transaction.
const REPUBLISH_BATCH: u16 = 500;
/// With more events than this before the relay, republishing waits: live events go first.
const MAX_BACKLOG: i64 = 10_000;
const BACKLOG_POLL: Duration = Duration::from_millis(100);
const PROGRESS_POLL: Duration = Duration::from_millis(200);
/// How often it is said what is waited for.
const SAY_AGAIN: Duration = Duration::from_secs(5);

/// Lists, shows, retries and discards.
///
/// # Errors
/// If Postgres can't be reached, or there is no such event.
pub async fn outbox(config: OutboxConfig) -> anyhow::Result<()> {
    let pool = postgres_pool::pool(&config.database.database(), 1, STATEMENT_TIMEOUT)?;
    match config.command {
        OutboxCommand::Admin(command) => admin::run(&pool, command).await,
        OutboxCommand::Retry { id } => admin::retry(&pool, id, users::decide_retry).await,
    }
}

/// Puts the present state of every user into the outbox again, at a bounded rate and no faster
/// than the relay takes it. Safe while the service is writing.
///
/// # Errors
/// If Postgres can't be reached; the error says from where to go on.
pub async fn republish(config: RepublishConfig) -> anyhow::Result<()> {
    let pool = postgres_pool::pool(&config.database.database(), 1, STATEMENT_TIMEOUT)?;
    let stream = &config.topic.stream;
    claim_cursor(&pool, stream).await?;
    let mut after = config.from.since.unwrap_or(0);
    let run = match config.from.since {
        None => Some(republish_run::begin(&pool, stream).await?),
        Some(since) => republish_run::resume(&pool, stream, since).await?,
    };
    let progress = progress_bar(users::last_user_id(&pool).await?.unsigned_abs());
    let mut done = 0;
    loop {
        let started = Instant::now();
        let batch = next_batch(&pool, after, &progress)
            .await
            .with_context(|| format!("go on with `republish --since {after}`"))?;
        let Some(batch) = batch else {
            break;
        };
        if let Some(run) = run {
            (republish_run::advance(&pool, run, batch.last_user_id).await)
                .with_context(|| format!("go on with `republish --since {after}`"))?;
        }
        after = batch.last_user_id;
        done += batch.users;
        progress.set_position(after.unsigned_abs());
        let seconds = batch.users as f64 / f64::from(config.rate);
        tokio::time::sleep_until(started + Duration::from_secs_f64(seconds)).await;
    }
    progress.finish();
    println!("{done} users are in the outbox again");
    match run {
        Some(run) => wait_until_published(&pool, stream, run).await,
        None => Ok(()),
    }
}

/// Waits for the relay, since the stream holds every user only then.
async fn wait_until_published(pool: &Pool, stream: &str, run: Run) -> anyhow::Result<()> {
    republish_run::finish(pool, run).await?;
    let mut said_at: Option<Instant> = None;
    loop {
        match republish_run::progress(pool, stream, run).await? {
            Progress::Published => {
                println!("they are on the stream, from which a copy can be rebuilt");
                return Ok(());
            }
            Progress::Lost => bail!("the stream has lost events meanwhile: run this again"),
            Progress::Pending if said_at.is_none_or(|it| it.elapsed() > SAY_AGAIN) => {
                let backlog = inspect::backlog(pool, inspect::MAX_COUNTED + 1).await?;
                let reason = no_relay(backlog);
                let events = inspect::counted(backlog.events);
                println!("waiting for the relay: {events} events are left to publish{reason}");
                said_at = Some(Instant::now());
            }
            Progress::Pending => {}
        }
        tokio::time::sleep(PROGRESS_POLL).await;
    }
}

async fn next_batch(
    pool: &Pool,
    after: i64,
    progress: &ProgressBar,
) -> sqlx::Result<Option<users::Republished>> {
    let mut reported = None;
    loop {
        let backlog = inspect::backlog(pool, MAX_BACKLOG + 1).await?;
        if backlog.events <= MAX_BACKLOG {
            return users::republish(pool, after, REPUBLISH_BATCH).await;
        }
        if reported != Some(backlog.has_relay) {
            reported = Some(backlog.has_relay);
            progress.suspend(|| report_waiting(backlog));
        }
        tokio::time::sleep(BACKLOG_POLL).await;
    }
}

fn report_waiting(backlog: Backlog) {
    let reason = no_relay(backlog);
    println!("waiting until at most {MAX_BACKLOG} events are left to publish{reason}");
}

fn no_relay(backlog: Backlog) -> &'static str {
    if backlog.has_relay {
        ""
    } else {
        "; no relay is active: start `user-service relay`"
    }
}
