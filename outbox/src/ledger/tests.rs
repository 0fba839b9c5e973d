//! What reading costs, by the plan: which partitions are touched, and how many rows are read.

use std::{collections::BTreeSet, slice};

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use super::{READ_BYTES, Selection, read_from, read_gaps};
use crate::tests;

const READ_GAPS: &str = include_str!("read_gaps.sql");

const PENDING: &str = "select * from outbox.pending";

#[tokio::test]
async fn a_gap_is_looked_up_in_its_own_partition_only() {
    let mut db = ledger_of_many_partitions().await;
    let gaps = "array['[150,151)', '[1250,1251)']::int8range[]";
    for mode in ["force_custom_plan", "force_generic_plan"] {
        let plan = explain_read_gaps(&mut db, mode, gaps, 1000).await;
        let read = Scans::of(&plan);
        let expected = ["event_101_201", "event_1201_1301"];
        assert_eq!(
            read.partitions,
            BTreeSet::from(expected.map(str::to_owned)),
            "{plan:#}"
        );
    }
}

#[tokio::test]
async fn of_many_gaps_that_are_filled_no_more_are_read_than_the_limit_needs() {
    let mut db = ledger_of_many_partitions().await;
    let gaps: Vec<_> = (0..19)
        .map(|at| format!("'[{},{})'", at * 100 + 2, at * 100 + 90))
        .collect();
    let gaps = format!("array[{}]::int8range[]", gaps.join(","));
    for mode in ["force_custom_plan", "force_generic_plan"] {
        let plan = explain_read_gaps(&mut db, mode, &gaps, 20).await;
        let read = Scans::of(&plan);
        assert!(read.rows < 200, "{} rows: {plan:#}", read.rows);
    }
}

#[tokio::test]
async fn what_is_pending_is_seen_without_reading_what_is_published() {
    let mut db = ledger_of_many_partitions().await;
    let published = "insert into outbox.cursor (stream, last_id, gaps)
                     values ('USERS', 1850, array['[150,151)']::int8range[])";
    run(&mut db, published).await;
    let plan = explain(&mut db, PENDING).await;
    let read = Scans::of(&plan);
    assert!(read.partitions.contains("event_101_201"), "{plan:#}");
    let published = ["event_1_101", "event_1001_1101", "event_1601_1701"];
    assert!(
        published.iter().all(|it| !read.partitions.contains(*it)),
        "{plan:#}"
    );
}

#[tokio::test]
async fn a_read_brings_no_more_bytes_than_it_may_but_one_new_event_at_least() {
    let mut db = ledger_of_large_events().await;
    let all = Selection::AllBut(vec![]);
    for (last_id, expected) in [
        (0, vec![1]),
        // What is known already takes no room.
        (1, vec![1, 2, 3, 4]),
        (2, vec![2, 3, 4, 5]),
        (5, vec![5, 6]),
    ] {
        let entries = read_from(&mut db, last_id, 1000, &all, None).await;
        let ids: Vec<_> = entries.expect("a read").iter().map(|it| it.id).collect();
        assert_eq!(ids, expected, "from {last_id}");
    }
    let whole = 1..7;
    for (gaps, expected, is_cut) in [
        (slice::from_ref(&whole), vec![1], true),
        (&[2..4, 4..6], vec![2, 3, 4], true),
        (&[2..3, 3..5], vec![2, 3, 4], false),
        (&[2..4, 5..7], vec![2, 3, 5], true),
    ] {
        let filled = read_gaps(&mut db, gaps, 1000, &all, None).await;
        let filled = filled.expect("a read");
        let ids: Vec<_> = filled.entries.iter().map(|it| it.id).collect();
        assert_eq!((ids, filled.is_cut), (expected, is_cut), "{gaps:?}");
    }
    let none = Selection::Only(vec![]);
    let filled = read_gaps(&mut db, slice::from_ref(&whole), 1000, &none, None).await;
    let filled = filled.expect("a read");
    assert!(filled.entries.len() == 6 && !filled.is_cut, "ids alone");
}

#[tokio::test]
async fn a_compressed_event_counts_as_what_it_may_be() {
    let mut db = ledger_of_many_partitions().await;
    let fill = "insert into outbox.event (aggregate_type, aggregate_id, event_type, payload)
                select 'user', '1', 'user_changed', to_json(repeat('a', 1048576))
                from generate_series(1, 100)";
    run(&mut db, fill).await;
    let all = Selection::AllBut(vec![]);
    let entries = read_from(&mut db, 2000, 1000, &all, None).await;
    let entries = entries.expect("a read");
    let bytes: usize = entries.iter().map(|it| it.payload.len()).sum();
    assert!((2..=10 << 20).contains(&bytes), "{bytes}");
}

/// Of 10, 3, 3, 3, 3 and 3 MiB, which do not compress.
async fn ledger_of_large_events() -> PgConnection {
    let database = tests::create_database().await;
    let mut db = PgConnection::connect(&database.url)
        .await
        .expect("Postgres");
    for mib in [10, 3, 3, 3, 3, 3] {
        let append = format!(
            "insert into outbox.event (aggregate_type, aggregate_id, event_type, payload)
             select 'user', '1', 'user_changed',
                    to_json(string_agg(encode(sha512(n::text::bytea), 'base64'), ''))
             from generate_series(1, {mib} * 11916) as n"
        );
        run(&mut db, &append).await;
    }
    db
}

/// 2,000 events in 20 partitions, without number 150 and 1250.
async fn ledger_of_many_partitions() -> PgConnection {
    let database = tests::create_database().await;
    let mut db = PgConnection::connect(&database.url)
        .await
        .expect("Postgres");
    run(&mut db, "drop table outbox.event_1_1000001").await;
    for at in 0..20 {
        let (from, to) = (at * 100 + 1, at * 100 + 101);
        let create = format!(
            "create table outbox.event_{from}_{to} partition of outbox.event for values from ({from}) to ({to})"
        );
        run(&mut db, &create).await;
    }
    let fill = "insert into outbox.event (aggregate_type, aggregate_id, event_type, payload)
                select 'user', id::text, 'user_created', '{}' from generate_series(1, 2000) as id";
    run(&mut db, fill).await;
    run(&mut db, "delete from outbox.event where id in (150, 1250)").await;
    run(&mut db, "analyze outbox.event").await;
    db
}

async fn explain_read_gaps(db: &mut PgConnection, mode: &str, gaps: &str, limit: i64) -> Value {
    run(db, "deallocate all").await;
    run(db, &format!("set plan_cache_mode = {mode}")).await;
    run(
        db,
        &format!(
            "prepare read_gaps (int8range[], bigint, text[], boolean, text, bigint) as {READ_GAPS}"
        ),
    )
    .await;
    explain(
        db,
        &format!(
            "execute read_gaps ({gaps}, {limit}, '{{}}', true, outbox.database_identity(), {READ_BYTES})"
        ),
    )
    .await
}

async fn explain(db: &mut PgConnection, statement: &str) -> Value {
    let explain = format!("explain (analyze, format json) {statement}");
    let row = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_one(db).await;
    row.expect("a plan").get(0)
}

async fn run(db: &mut PgConnection, statement: &str) {
    let done = sqlx::raw_sql(AssertSqlSafe(statement)).execute(db).await;
    done.expect("a statement that runs");
}

/// What a plan has read.
#[derive(Debug, Default)]
struct Scans {
    partitions: BTreeSet<String>,
    rows: u64,
}

impl Scans {
    fn of(plan: &Value) -> Self {
        let mut scans = Self::default();
        scans.add(&plan[0]["Plan"]);
        scans
    }

    fn add(&mut self, node: &Value) {
        let loops = node["Actual Loops"].as_f64().unwrap_or_default();
        let relation = node["Relation Name"].as_str().unwrap_or_default();
        if relation.starts_with("event_") && loops > 0.0 {
            self.partitions.insert(relation.to_owned());
            let rows = node["Actual Rows"].as_f64().unwrap_or_default();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a count of rows"
            )]
            let rows = (rows * loops) as u64;
            self.rows += rows;
        }
        for child in node["Plans"].as_array().into_iter().flatten() {
            self.add(child);
        }
    }
}
