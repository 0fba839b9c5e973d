//! Commands for a database that lost its most recent writes.

use anyhow::{Context, bail, ensure};
use postgres_pool::Pool;
use service_runtime::terminal::confirm;

use crate::reconciliation::{self, Orphan};

pub(super) async fn list(pool: &Pool, limit: u16, retry: bool) -> anyhow::Result<()> {
    if retry {
        let asked = reconciliation::ask_again(pool).await?;
        println!("{asked} are going to be asked for again");
    }
    let orphans = reconciliation::orphans(pool, limit).await?;
    if orphans.is_empty() {
        println!("no orphans");
    }
    for orphan in &orphans {
        println!("  {}", describe(orphan));
    }
    Ok(())
}

fn describe(orphan: &Orphan) -> String {
    let state = match (&orphan.restated_at, &orphan.error) {
        (Some(at), _) => format!("restated {at}"),
        (None, Some(error)) => format!("not restated: {error}"),
        (None, None) => {
            "not restated: no function is registered for the type, or no relay has run \
                         since"
                .to_owned()
        }
    };
    let version = super::in_version(orphan.version, "  up to ");
    format!(
        "{}  {} {}{version}  {} messages  found {}  {state}",
        orphan.stream, orphan.aggregate_type, orphan.aggregate_id, orphan.messages, orphan.found_at,
    )
}

pub(super) async fn reconciled(
    pool: &Pool,
    stream: Option<String>,
    yes: bool,
) -> anyhow::Result<()> {
    let stream = known(pool, stream).await?;
    let question = format!(
        "Are the copies of all consumers of {stream} compared with the database and repaired? Orphans \
         that were not restated are forgotten."
    );
    ensure!(yes || confirm(&question)?, "nothing was changed");
    let orphans = reconciliation::reconciled(pool, &stream).await?;
    println!("{stream} is reconciled; {orphans} orphans are forgotten");
    Ok(())
}

pub(super) async fn adopt(pool: &Pool, stream: Option<String>, yes: bool) -> anyhow::Result<()> {
    let stream = known(pool, stream).await?;
    let question = format!(
        "Take {stream} over from the ledger that has published to it? What this database does not have \
         is published as deleted, as far as its types can be restated."
    );
    ensure!(yes || confirm(&question)?, "nothing was changed");
    reconciliation::adopt(pool, &stream).await?;
    println!(
        "the relay takes {stream} over when it next tries, unless the other one is still active"
    );
    Ok(())
}

/// The only one, unless one is named.
async fn known(pool: &Pool, stream: Option<String>) -> anyhow::Result<String> {
    let streams = reconciliation::streams(pool).await?;
    match stream {
        Some(stream) if streams.contains(&stream) => Ok(stream),
        Some(stream) => bail!("no relay has run for a stream {stream}"),
        None if streams.len() > 1 => bail!("say which stream: {}", streams.join(", ")),
        None => (streams.into_iter().next()).context("no relay has run for any stream"),
    }
}
