//! A dump that is restored while the stream goes on, with nothing but the program and plain SQL.

use std::{collections::BTreeMap, process::Command};

use serde_json::{Value, json};
use testkit::{Service, eventually, postgres::Database};

use super::support::World;

const ORDERS: &str = "
    create table orders (id text primary key, status text not null, version bigint not null);

    create function restate_orders(aggregate_ids text[], versions bigint[])
    returns setof text language sql as $$
        with wanted as (
            select * from unnest(aggregate_ids, versions) as wanted (id, version)
        ), raised as (
            update orders
            set version = greatest(orders.version, coalesce(wanted.version, 0)) + 1
            from wanted where orders.id = wanted.id
            returning orders.*
        ), appended as (
            select outbox.append('order', id, 'order_restated',
                                 json_build_object('status', status), version)
            from raised
            union all
            select outbox.append('order', id, 'order_deleted', '{}', coalesce(version, 0) + 1)
            from wanted where id not in (select id from raised)
        )
        select id from wanted where (select count(*) from appended) > 0
    $$;

    insert into outbox.aggregate values ('order', 'public.restate_orders');";

#[tokio::test]
async fn a_dump_that_is_restored_is_reconciled_by_the_program_alone() {
    let mut world = World::new().await;
    world.execute(ORDERS).await;
    let mut relay = world.relay(&[]);
    set(&world, "1", "placed").await;
    set(&world, "2", "placed").await;
    world.published(2).await;
    let dump = pg("pg_dump", &world.database, &[]);
    set(&world, "1", "paid").await;
    set(&world, "3", "placed").await;
    world.published(4).await;
    relay.process.stop().await;

    world.database = Database::create().await;
    let file = std::env::temp_dir().join(testkit::unique("dump"));
    std::fs::write(&file, dump).expect("a file");
    let file = file.display().to_string();
    pg(
        "psql",
        &world.database,
        &["-v", "ON_ERROR_STOP=1", "-f", &file],
    );
    std::fs::remove_file(&file).expect("a file");
    set(&world, "2", "cancelled").await;
    let relay = world.relay(&[]);
    let expected = [("1", "placed"), ("2", "cancelled"), ("3", "deleted")];
    eventually("what the restored database has", async || {
        let statuses = statuses(&world).await;
        (expected.iter())
            .all(|(id, status)| statuses.get(*id).is_some_and(|it| it == status))
            .then_some(())
    })
    .await;
    let listed = world.run(&["orphans"]).await.expect("a list");
    assert!(
        listed.contains("order 3") && listed.contains("restated"),
        "{listed}"
    );
    let status = world.run(&["status"]).await.expect("all is well");
    assert!(!status.contains("orphans"), "{status}");
    drop(relay);
}

#[tokio::test]
async fn what_is_unknown_needs_attention_until_an_operator_says_otherwise() {
    let world = World::new().await;
    let mut relay = world.relay(&[]);
    world
        .execute("select outbox.append('order', '1', 'order_placed', '{}')")
        .await;
    world.published(1).await;
    ready(&relay, true).await;
    world
        .execute("update outbox.cursor set unreconciled_since = clock_timestamp()")
        .await;
    let (code, status) = world.run(&["status"]).await.expect_err("attention");
    assert_eq!(code, 3);
    assert!(status.contains("unreconciled"), "{status}");
    ready(&relay, false).await;
    let done = world.run(&["reconciled", &world.stream, "--yes"]).await;
    done.expect("a decision");
    world.run(&["status"]).await.expect("all is well");
    ready(&relay, true).await;
    let unknown = world.run(&["adopt", "NO_STREAM", "--yes"]).await;
    unknown.expect_err("there is no such stream");
    relay.process.stop().await;
}

/// Waits until `/readyz` says so of the check `reconciliation`, and of no other.
async fn ready(relay: &Service, is_reconciled: bool) {
    let (code, checks) = match is_reconciled {
        true => (
            200,
            json!({"postgres": "ok", "relay": "ok", "reconciliation": "ok"}),
        ),
        false => (
            503,
            json!({"postgres": "ok", "relay": "ok", "reconciliation": "failed"}),
        ),
    };
    let url = format!("{}/readyz", relay.url().await);
    eventually("the check to have its outcome", async || {
        let answer = reqwest::get(&url).await.ok()?;
        let answer = (answer.status(), answer.json::<Value>().await.ok()?);
        (answer.0 == code && answer.1["checks"] == checks).then_some(())
    })
    .await;
}

async fn set(world: &World, id: &str, status: &str) {
    let set = "
        with changed as (
            insert into orders values ($1, $2, 1)
            on conflict (id) do update set status = excluded.status, version = orders.version + 1
            returning *
        )
        select outbox.append('order', id, 'order_changed', json_build_object('status', status),
                             version)
        from changed";
    let done = sqlx::query(set).bind(id).bind(status);
    done.execute(world.pool()).await.expect("a change");
}

/// As a consumer has them that takes the messages in their order.
async fn statuses(world: &World) -> BTreeMap<String, String> {
    let messages = world.published(4).await;
    let status = |body: &str| {
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        let status = body["payload"]["status"].as_str().unwrap_or("deleted");
        status.to_owned()
    };
    (messages.into_iter())
        .map(|it| (it.aggregate_id.clone(), status(&it.body)))
        .collect()
}

fn pg(program: &str, database: &Database, arguments: &[&str]) -> Vec<u8> {
    // What follows is for the driver alone.
    let url = database.url.split('?').next().unwrap_or_default();
    let done = Command::new(program)
        .arg(url)
        .args(arguments)
        .output()
        .expect("PostgreSQL's programs");
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    done.stdout
}
