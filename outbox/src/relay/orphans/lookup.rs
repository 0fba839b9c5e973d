//! Looking up messages in the ledger, and keeping what is not there.

use postgres_pool::Connection;
use uuid::Uuid;

use super::{Lookup, scan::Found};
use crate::{
    ledger,
    relay::{doubts, failure::Failure, ledger_check},
    said::Said,
};

/// Nobody loses more events than this: what claims a higher id is no event of ours, and must not use
/// up the ids.
const MAX_AHEAD: i64 = 1_000_000_000;

/// What was looked up.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) messages: usize,
    pub(super) orphans: usize,
    /// Messages of which nobody can tell which event they are, and the first of them.
    pub(super) unreadable: usize,
    pub(super) first_unreadable: Option<(u64, &'static str)>,
}

impl Findings {
    pub(super) fn add(&mut self, other: &Self) {
        self.messages += other.messages;
        self.orphans += other.orphans;
        self.unreadable += other.unreadable;
        self.first_unreadable = self.first_unreadable.or(other.first_unreadable);
    }

    fn ignore(&mut self, sequence: u64, reason: &'static str) {
        self.unreadable += 1;
        self.first_unreadable.get_or_insert((sequence, reason));
    }
}

#[derive(Debug)]
struct Orphan {
    sequence: i64,
    id: Option<i64>,
    aggregate_type: String,
    aggregate_id: String,
    version: Option<i64>,
}

/// Looks these messages up, keeps those that are orphans, and notes up to where this was done: in one
/// transaction, hence in the database that the lease was acquired from.
pub(super) async fn keep(
    lookup: Lookup<'_>,
    batch: Vec<Found>,
    looked_up_to: u64,
) -> Result<Findings, Failure> {
    let mut findings = Findings {
        messages: batch.len(),
        ..Findings::default()
    };
    let stream = &lookup.owned.stream;
    let mut transaction = lookup.pool.begin().await?;
    lookup.owned.hold(&mut transaction).await?;
    let missing = missing(&mut transaction, lookup, batch, &mut findings).await?;
    let highest_id = highest_id(&mut transaction).await?;
    let mut orphans = Vec::new();
    let mut is_uncertain = false;
    for (sequence, said) in missing {
        let has_no_version = said.is_of_an_earlier_release();
        match orphan(lookup, sequence, said, highest_id) {
            Ok(orphan) => {
                is_uncertain |= has_no_version;
                orphans.push(orphan);
            }
            Err(reason) => findings.ignore(sequence, reason),
        }
    }
    findings.orphans = orphans.len();
    if !orphans.is_empty() {
        // Ids that are out must not be given to other events.
        if let Some(id) = orphans.iter().filter_map(|it| it.id).max() {
            ledger_check::move_sequence_above(&mut transaction, id).await?;
        }
        insert(&mut transaction, stream, &orphans).await?;
    }
    // Above an unknown version nothing can be restated for sure.
    let is_new = is_uncertain && doubts::unreconciled(&mut transaction, stream).await?;
    sqlx::query!(
        "update outbox.cursor set looked_up_to = greatest(looked_up_to, $2) where stream = $1",
        stream,
        i64::try_from(looked_up_to).unwrap_or(i64::MAX),
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    if is_new {
        doubts::report(stream, doubts::WITHOUT_VERSION);
    }
    Ok(findings)
}

/// Those that the ledger does not have.
async fn missing(
    db: &mut Connection,
    lookup: Lookup<'_>,
    batch: Vec<Found>,
    findings: &mut Findings,
) -> sqlx::Result<Vec<(u64, Said)>> {
    let mut said = Vec::new();
    for Found { sequence, event } in batch {
        match event {
            Ok(event) => said.push((sequence, event)),
            Err(reason) => findings.ignore(sequence, reason),
        }
    }
    let (with_id, without_id): (Vec<_>, Vec<_>) =
        said.into_iter().partition(|(_, said)| said.id.is_some());
    let mut missing = missing_with_id(db, with_id).await?;
    if !without_id.is_empty() {
        missing.extend(missing_without_id(db, &lookup.owned.stream, without_id).await?);
    }
    Ok(missing)
}

async fn missing_with_id(
    db: &mut Connection,
    said: Vec<(u64, Said)>,
) -> sqlx::Result<Vec<(u64, Said)>> {
    let events = said.iter();
    let events: Vec<_> = events
        .filter_map(|(_, said)| Some((said.id?, said.event_id)))
        .collect();
    let is_missing = ledger::lacks(db, &events).await?;
    let all = said.into_iter().zip(is_missing);
    Ok(all
        .filter_map(|(it, is_missing)| is_missing.then_some(it))
        .collect())
}

/// Of earlier releases: by event id, for which there is no index, among the events that the cursor
/// has not passed. All others are below its tail.
async fn missing_without_id(
    db: &mut Connection,
    stream: &str,
    said: Vec<(u64, Said)>,
) -> sqlx::Result<Vec<(u64, Said)>> {
    let event_ids: Vec<_> = said.iter().map(|(_, said)| said.event_id).collect();
    let present: Vec<Uuid> = sqlx::query_scalar!(
        r#"
        select event.event_id as "event_id!"
        from outbox.cursor
        cross join lateral (
            select event_id from outbox.event where id > last_id offset 0
        ) as event
        where stream = $1 and event.event_id = any ($2)
        union all
        select event.event_id
        from outbox.cursor
        cross join unnest(gaps) as gap
        cross join lateral (
            select event_id from outbox.event where id >= lower(gap) and id < upper(gap) offset 0
        ) as event
        where stream = $1 and event.event_id = any ($2)
        "#,
        stream,
        &event_ids,
    )
    .fetch_all(db)
    .await?;
    let is_missing = |(_, said): &(u64, Said)| !present.contains(&said.event_id);
    Ok(said.into_iter().filter(is_missing).collect())
}

async fn highest_id(db: &mut Connection) -> sqlx::Result<i64> {
    sqlx::query_scalar!(r#"select last_value as "id!" from outbox.event_id_seq"#)
        .fetch_one(db)
        .await
}

/// Releases before this did not name the type: it is that of the stream, if there is one only.
fn orphan(
    lookup: Lookup<'_>,
    sequence: u64,
    said: Said,
    highest_id: i64,
) -> Result<Orphan, &'static str> {
    if said.id.is_some_and(|id| id - highest_id > MAX_AHEAD) {
        return Err("an outbox id far beyond all that were given out");
    }
    let aggregate_type = match (said.aggregate_type, lookup.aggregate_types) {
        (Some(aggregate_type), _) => aggregate_type,
        (None, [only]) => only.clone(),
        (None, _) => return Err("no aggregate type, and the stream has several"),
    };
    Ok(Orphan {
        sequence: i64::try_from(sequence).map_err(|_| "a sequence beyond all bounds")?,
        id: said.id,
        aggregate_type,
        aggregate_id: said.aggregate_id,
        version: said.version,
    })
}

/// One that is known already, from before a crash, stays as it is. What it failed for, or waits for,
/// stays until a higher version is found: anybody can repeat a message.
async fn insert(db: &mut Connection, stream: &str, orphans: &[Orphan]) -> sqlx::Result<()> {
    let types: Vec<_> = orphans.iter().map(|it| it.aggregate_type.clone()).collect();
    let ids: Vec<_> = orphans.iter().map(|it| it.aggregate_id.clone()).collect();
    let versions: Vec<_> = orphans.iter().map(|it| it.version).collect();
    let sequences: Vec<_> = orphans.iter().map(|it| it.sequence).collect();
    sqlx::query!(
        r"
        insert into outbox.orphan as orphan
            (stream, aggregate_type, aggregate_id, version, stream_sequence, messages)
        select $1, aggregate_type, aggregate_id, max(version), max(sequence), count(*)
        from unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[])
            as found (aggregate_type, aggregate_id, version, sequence)
        group by aggregate_type, aggregate_id
        on conflict (stream, aggregate_type, aggregate_id) do update
        set version = greatest(orphan.version, excluded.version),
            stream_sequence = greatest(orphan.stream_sequence, excluded.stream_sequence),
            messages = orphan.messages + excluded.messages,
            restated_at = null,
            error = case
                when excluded.version > orphan.version and orphan.retry_at is null then null
                else orphan.error
            end
        where excluded.stream_sequence > orphan.stream_sequence
            or excluded.version > orphan.version
        ",
        stream,
        &types,
        &ids,
        &versions as &[Option<i64>],
        &sequences,
    )
    .execute(db)
    .await
    .map(drop)
}
