//! The same adversarial writers for our reader and for those that are known to fail: were the
//! scenarios too kind, the controls would pass.

mod controls;
mod limits;
mod other_streams;
mod superseded;

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{Connection, PgPool, Postgres, Transaction};
use testkit::eventually;

use self::controls::{ByXid, EarlyBound, Naive};
use super::{Interest, Reader};
use crate::{
    ledger::Selection,
    relay::{cursor::Cursor, task::Task},
    tests::{self, new_account},
};

/// What a reader handed out: the ids, in its order.
type Found = Vec<i64>;

trait Follow {
    async fn read(&mut self) -> Found;
}

#[tokio::test]
async fn our_reader_misses_nothing_and_keeps_the_order() {
    let pool = ledger().await;
    let ours = || reader(&pool, 1000);
    assert_eq!(late_commit(&pool, ours()).await, Ok(()));
    assert_eq!(late_commit_of_a_later_xid(&pool, ours()).await, Ok(()));
    assert_eq!(early_xid_late_lock(&pool, ours()).await, Ok(()));
}

#[tokio::test]
async fn the_naive_cursor_loses_what_commits_late() {
    let pool = ledger().await;
    let naive = Naive {
        pool: pool.clone(),
        last_id: 0,
    };
    let lost = late_commit(&pool, naive).await.expect_err("it must fail");
    assert!(lost.starts_with("lost"), "{lost}");
}

/// Transactions of other databases on the server move its xmax: so this one may take a few tries.
#[tokio::test]
async fn a_bound_taken_from_the_snapshot_comes_too_early() {
    let pool = ledger().await;
    let lost = eventually("a loss", async || {
        let early = EarlyBound(reader(&pool, 1000));
        late_commit_of_a_later_xid(&pool, early).await.err()
    })
    .await;
    assert!(lost.starts_with("lost"), "{lost}");
}

/// Transactions of other databases hold its horizon back: so this one may take a few tries.
#[tokio::test]
async fn reading_in_the_order_of_xids_breaks_the_order_of_an_aggregate() {
    let pool = ledger().await;
    eventually("a broken order", async || {
        let by_xid = ByXid {
            pool: pool.clone(),
            seen: BTreeSet::new(),
        };
        let broken = early_xid_late_lock(&pool, by_xid).await.err()?;
        broken.starts_with("order").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_rolled_back_event_is_given_up_and_no_other_waits_for_it() {
    let pool = ledger().await;
    let mut reader = reader(&pool, 1000);
    let mut rolled_back = Writer::begin(&pool).await;
    rolled_back.change(new_account(&pool).await).await;
    let kept = write(&pool, new_account(&pool).await).await;
    assert_eq!(reader.read().await, [kept]);
    assert!(reader.position.has_gaps());
    rolled_back
        .transaction
        .rollback()
        .await
        .expect("a rollback");
    eventually("the gap to be closed", async || {
        reader.read().await;
        (!reader.position.has_gaps()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn late_events_beyond_a_batch_come_before_newer_ones() {
    let pool = ledger().await;
    let mut reader = reader(&pool, 2);
    let account = new_account(&pool).await;
    let mut large = Writer::begin(&pool).await;
    let mut expected = Vec::new();
    for _ in 0..5 {
        expected.push(large.change(account).await);
    }
    let newer = write(&pool, new_account(&pool).await).await;
    assert_eq!(reader.read().await, [newer]);
    large.commit().await;
    expected.push(write(&pool, account).await);
    let mut found = Vec::new();
    while found.len() < expected.len() {
        let read = reader.read().await;
        assert!(!read.is_empty(), "only {found:?} of {expected:?}");
        found.extend(read);
    }
    assert_eq!(found, expected);
}

#[tokio::test]
async fn what_the_stream_has_lost_comes_after_new_events() {
    let pool = ledger().await;
    let mut reader = reader(&pool, 2);
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(write(&pool, new_account(&pool).await).await);
    }
    let mut found = Vec::new();
    while found.len() < ids.len() {
        found.extend(reader.read().await);
    }
    let lost = ids[0]..ids[4];
    reader.position.reopen(lost.clone());
    let mut reader = reader.with_refill(vec![lost]);
    let newer = write(&pool, new_account(&pool).await).await;
    assert_eq!(reader.read().await, [newer, ids[0], ids[1]]);
    let newest = write(&pool, new_account(&pool).await).await;
    assert_eq!(reader.read().await, [newest, ids[2], ids[3]]);
    eventually("the gaps to be closed", async || {
        assert!(reader.read().await.is_empty());
        (!reader.position.has_gaps()).then_some(())
    })
    .await;
}

/// As after a large import that was rolled back while others wrote, here with more gaps than one
/// statement looks at. Those that are filled late lie in different slices.
#[tokio::test]
async fn of_thousands_of_gaps_those_that_are_filled_are_found_and_the_others_given_up() {
    let pool = ledger().await;
    let account = new_account(&pool).await;
    let mut reader = reader(&pool, 1000);
    let mut late = Writer::begin(&pool).await;
    let mut expected = vec![late.change(account).await];
    let every_second =
        "insert into outbox.event (id, aggregate_type, aggregate_id, event_type, version, payload)
                        select n * 2, 'account', (n + 1000)::text, 'opened', 1, '{}'
                        from generate_series(1, 5000) as n";
    sqlx::raw_sql(every_second)
        .execute(&pool)
        .await
        .expect("events");
    sqlx::raw_sql("select setval('outbox.event_id_seq', 10000)")
        .execute(&pool)
        .await
        .expect("a sequence");
    let mut found = Vec::new();
    while found.len() < 5000 {
        found.extend(reader.read().await);
    }
    assert_eq!(reader.position.gaps().count(), 5000);
    late.commit().await;
    expected.push(write(&pool, account).await);
    assert_eq!(reader.read().await, expected);
    eventually("all gaps to be given up", async || {
        assert!(reader.read().await.is_empty());
        (!reader.position.has_gaps()).then_some(())
    })
    .await;
}

/// Many writers on few accounts, with pauses and rollbacks where they hurt, read in small batches.
#[tokio::test(flavor = "multi_thread")]
async fn under_adversarial_load_every_event_is_found_once_and_in_order() {
    let pool = ledger().await;
    let mut accounts = Vec::new();
    for _ in 0..5 {
        accounts.push(new_account(&pool).await);
    }
    let writers = (0..8_usize)
        .map(|writer| tokio::spawn(write_badly(pool.clone(), accounts.clone(), writer)));
    let writing = tokio::spawn(futures::future::join_all(writers));
    let mut reader = reader(&pool, 7);
    let mut found = Vec::new();
    while !writing.is_finished() {
        found.extend(reader.read().await);
    }
    for outcome in writing.await.expect("writers") {
        outcome.expect("a writer");
    }
    eventually("all events", async || {
        found.extend(reader.read().await);
        check(&pool, &found).await.ok()
    })
    .await;
    let unique: BTreeSet<_> = found.iter().collect();
    assert_eq!(unique.len(), found.len(), "nothing twice");
}

async fn write_badly(pool: PgPool, accounts: Vec<i64>, writer: usize) {
    for round in 0..40 {
        let mut writing = Writer::begin(&pool).await;
        // Only one account a transaction: several would deadlock.
        let account = accounts[(writer * 7 + round * 3) % accounts.len()];
        writing.change(account).await;
        for _ in 0..(writer + round) % 4 {
            tokio::task::yield_now().await;
            writing.pause().await;
        }
        if (writer + round).is_multiple_of(5) {
            writing.transaction.rollback().await.expect("a rollback");
        } else {
            writing.commit().await;
        }
    }
}

/// An id is drawn, a later one is committed and read, then the first commits.
async fn late_commit(pool: &PgPool, mut reader: impl Follow) -> Result<(), String> {
    let mut late = Writer::begin(pool).await;
    late.change(new_account(pool).await).await;
    write(pool, new_account(pool).await).await;
    let mut found = reader.read().await;
    late.commit().await;
    found.extend(reader.read().await);
    check(pool, &found).await
}

/// As before, but the late one got its xid later: it lies above the snapshot's xmax, which is
/// only the last xid that has ended, plus one.
async fn late_commit_of_a_later_xid(pool: &PgPool, mut reader: impl Follow) -> Result<(), String> {
    let (first, second) = (new_account(pool).await, new_account(pool).await);
    let mut early = Writer::begin(pool).await;
    early.lock(first).await;
    let mut late = Writer::begin(pool).await;
    late.change(second).await;
    early.change(first).await;
    early.commit().await;
    let mut found = reader.read().await;
    found.extend(reader.read().await);
    late.commit().await;
    found.extend(reader.read().await);
    found.extend(reader.read().await);
    check(pool, &found).await
}

/// A transaction has its xid before it gets the lock of an account that one with a later xid changes
/// first.
async fn early_xid_late_lock(pool: &PgPool, mut reader: impl Follow) -> Result<(), String> {
    let (contended, other) = (new_account(pool).await, new_account(pool).await);
    let mut early_xid = Writer::begin(pool).await;
    early_xid.lock(other).await;
    write(pool, contended).await;
    early_xid.change(contended).await;
    early_xid.commit().await;
    let found = reader.read().await;
    check(pool, &found).await
}

/// Whether all committed events were found, those of each account in the order of their versions.
async fn check(pool: &PgPool, found: &[i64]) -> Result<(), String> {
    let events: Vec<(i64, i64, i64)> =
        sqlx::query_as("select id, aggregate_id::bigint, version from outbox.event")
            .fetch_all(pool)
            .await
            .expect("the ledger");
    let by_id: BTreeMap<_, _> = events
        .iter()
        .map(|(id, account, version)| (*id, (*account, *version)))
        .collect();
    let lost: Vec<_> = by_id.keys().filter(|id| !found.contains(id)).collect();
    if !lost.is_empty() {
        return Err(format!("lost: {lost:?}"));
    }
    let mut last = BTreeMap::new();
    for id in found {
        let (account, version) = by_id[id];
        let before = last.insert(account, version).unwrap_or(0);
        if version <= before {
            return Err(format!(
                "order: version {version} of account {account} after {before}"
            ));
        }
    }
    Ok(())
}

async fn ledger() -> PgPool {
    tests::create_database().await.pool
}

/// Of the only stream, to which all events of accounts go.
fn reader(pool: &PgPool, batch: u16) -> Reader {
    let interest = Interest {
        selection: Selection::AllBut(vec![]),
        routed_types: vec!["account".to_owned()],
        identity: None,
    };
    Reader::new(pool.clone().into(), batch, interest, &Cursor::default())
}

/// One change, committed at once; the event's id.
async fn write(pool: &PgPool, account: i64) -> i64 {
    let mut writer = Writer::begin(pool).await;
    let id = writer.change(account).await;
    writer.commit().await;
    id
}

/// A transaction that changes accounts as a service does: the row first, then the event.
struct Writer {
    transaction: Transaction<'static, Postgres>,
}

impl Writer {
    async fn begin(pool: &PgPool) -> Self {
        Self {
            transaction: pool.begin().await.expect("a transaction"),
        }
    }

    /// The transaction has its xid from here on.
    async fn lock(&mut self, account: i64) {
        sqlx::query("select from account where id = $1 for update")
            .bind(account)
            .execute(&mut *self.transaction)
            .await
            .expect("a lock");
    }

    async fn change(&mut self, account: i64) -> i64 {
        sqlx::query_scalar(
            r"
            with updated as (
                update account set version = version + 1 where id = $1 returning id, version
            )
            insert into outbox.event (aggregate_type, aggregate_id, event_type, version, payload)
            select 'account', id::text, 'changed', version, '{}' from updated
            returning id
            ",
        )
        .bind(account)
        .fetch_one(&mut *self.transaction)
        .await
        .expect("a change")
    }

    async fn pause(&mut self) {
        self.transaction.ping().await.expect("a round trip");
    }

    async fn commit(self) {
        self.transaction.commit().await.expect("a commit");
    }
}

impl Follow for Reader {
    async fn read(&mut self) -> Found {
        let found = self.next().await.expect("a read").tasks;
        let id = |task| match task {
            Task::Publish(event) => Some(event.entry.id),
            _ => None,
        };
        found.into_iter().filter_map(id).collect()
    }
}
