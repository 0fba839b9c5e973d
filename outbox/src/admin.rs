//! What an operator does from the command line, in every program that has an outbox.

mod orphans;

use anyhow::{Context, bail};
use clap::Subcommand;
use postgres_pool::{Connection, Pool};
use service_runtime::terminal::confirm;

use crate::{
    inspect::{self, MAX_COUNTED, counted},
    parked::{self, Decision, Parked, Retried},
    status,
};

/// Commands that need no more than the database.
#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// List pending and parked events, the oldest first
    List {
        /// Most events of each kind
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
    },
    /// Show one event of the outbox whole
    Show { id: i64 },
    /// Forget a parked event; asks first
    Discard {
        id: i64,
        /// Don't ask
        #[arg(long)]
        yes: bool,
    },
    /// List aggregates of which a stream has events that the database has lost, as after a restore
    Orphans {
        /// Most of them
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        /// Try those again that could not be restated
        #[arg(long)]
        retry: bool,
    },
    /// Say that the copies of all consumers were compared with the database and repaired, after events
    /// that the database may have lost have left the stream; asks first
    Reconciled {
        /// The only one by default
        stream: Option<String>,
        /// Don't ask
        #[arg(long)]
        yes: bool,
    },
    /// Take a stream over from another ledger, whose relay has to be stopped first; asks first
    Adopt {
        /// The only one by default
        stream: Option<String>,
        /// Don't ask
        #[arg(long)]
        yes: bool,
    },
}

/// # Errors
/// If Postgres can't be reached, or there is no such event.
pub async fn run(pool: &Pool, command: AdminCommand) -> anyhow::Result<()> {
    match command {
        AdminCommand::List { limit } => list(pool, limit).await,
        AdminCommand::Show { id } => show(pool, id).await,
        AdminCommand::Discard { id, yes } => discard(pool, id, yes).await,
        AdminCommand::Orphans { limit, retry } => orphans::list(pool, limit, retry).await,
        AdminCommand::Reconciled { stream, yes } => orphans::reconciled(pool, stream, yes).await,
        AdminCommand::Adopt { stream, yes } => orphans::adopt(pool, stream, yes).await,
    }
}

/// Publishes a parked event after all, if `decide` says so ([`parked::retry`]).
///
/// # Errors
/// If Postgres can't be reached, there is no such event, or its aggregate has later events.
pub async fn retry(
    pool: &Pool,
    id: i64,
    decide: impl AsyncFnOnce(&mut Connection, &Parked) -> sqlx::Result<Decision>,
) -> anyhow::Result<()> {
    match parked::retry(pool, id, decide).await? {
        Retried::Requeued => println!("event {id} is in the outbox again"),
        Retried::Superseded => println!(
            "event {id} is parked no longer: its aggregate has changed since, and that was published"
        ),
        Retried::Refused => bail!(
            "event {id} stays parked: its aggregate has later events, or they may have been dropped. \
             `outbox-relay retry {id} --out-of-order` publishes it after them, `discard` forgets it"
        ),
        Retried::NotParked => bail!("there is no parked event {id}"),
    }
    Ok(())
}

async fn list(pool: &Pool, limit: u16) -> anyhow::Result<()> {
    let backlog = inspect::backlog(pool, MAX_COUNTED + 1).await?;
    println!("{} pending", counted(backlog.events));
    if !backlog.has_relay {
        println!("no relay is active");
    }
    for event in inspect::pending(pool, limit).await? {
        println!(
            "  {}  {}  {} {}  written {}",
            event.id, event.event_type, event.aggregate_type, event.aggregate_id, event.created_at
        );
    }
    println!("{} parked", counted(status::relay(pool).await?.parked));
    for event in parked::list(pool, limit).await? {
        println!(
            "  {}  {}  {} {}{}  {} tries: {}",
            event.id,
            event.event_type,
            event.aggregate_type,
            event.aggregate_id,
            in_version(event.version, "  "),
            event.attempts,
            event.reason
        );
    }
    Ok(())
}

/// A parked event outlives its entry in the ledger, so it is looked for first.
async fn show(pool: &Pool, id: i64) -> anyhow::Result<()> {
    if let Some(event) = parked::find(pool, id).await? {
        println!("id         {id} ({})", event.event_id);
        println!("type       {}", event.event_type);
        println!(
            "aggregate  {} {}{}",
            event.aggregate_type,
            event.aggregate_id,
            in_version(event.version, ", ")
        );
        println!("written    {}", event.created_at);
        println!(
            "parked     {} after {} tries",
            event.parked_at, event.attempts
        );
        println!("reason     {}", event.reason);
        println!("payload    {}", event.payload);
        return Ok(());
    }
    let event = inspect::find(pool, id).await?;
    let event = event.with_context(|| format!("there is no event {id} in the outbox"))?;
    println!("id         {id} ({})", event.event_id);
    println!("type       {}", event.event_type);
    println!(
        "aggregate  {} {}{}",
        event.aggregate_type,
        event.aggregate_id,
        in_version(event.version, ", ")
    );
    println!("written    {}", event.created_at);
    if let Some(headers) = event.headers {
        println!("headers    {headers}");
    }
    println!("payload    {}", event.payload);
    Ok(())
}

fn in_version(version: Option<i64>, separator: &str) -> String {
    version.map_or_else(String::new, |it| format!("{separator}version {it}"))
}

async fn discard(pool: &Pool, id: i64, yes: bool) -> anyhow::Result<()> {
    let question = format!("Forget parked event {id}? Readers will never see it.");
    if !yes && !confirm(&question)? {
        bail!("nothing was discarded");
    }
    if !parked::discard(pool, id).await? {
        bail!("there is no parked event {id}");
    }
    println!("event {id} is discarded");
    Ok(())
}
