//! E-mail addresses: one normal form, whoever wrote them.

use futures::future::join_all;
use reqwest::{StatusCode, Url, header};
use serde_json::{Value, json};
use sqlx::migrate::{MigrateError, Migrator};
use testkit::eventually;

use crate::support::{Api, World, unless_busy};

/// The migration that adds the normal form.
const NORMAL_EMAIL: i64 = 5;

const SPELLINGS: [(&str, &str); 5] = [
    ("ada@example.com", "Ada@EXAMPLE.com"),
    ("İnci@example.com", "İNCI@example.com"),
    ("οδος@example.com", "ΟΔΟΣ@example.com"),
    ("οδος@example.org", "οδοσ@example.org"),
    ("ada@bücher.example", "ada@xn--bcher-kva.example"),
];

fn user(email: &str) -> Value {
    json!({"name": "Ada", "email": email})
}

async fn found(api: &Api, email: &str) -> Value {
    let url = Url::parse_with_params(&api.to("/users"), [("email", email)]).expect("a URL");
    let response = api.client().get(url).send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::OK);
    response.json().await.expect("a list")
}

/// Waits until the users without a normal form are these.
async fn without_normal_form(world: &World, expected: &[i64]) {
    eventually("the normal forms", async || {
        let missing: Vec<i64> =
            sqlx::query_scalar("select id from users where normal_email is null order by id")
                .fetch_all(&world.database.pool)
                .await
                .ok()?;
        (missing == expected).then_some(())
    })
    .await;
}

/// As a release without the column inserts a user; its id unless the address is taken.
async fn insert_as_before(world: &World, email: &str) -> Option<i64> {
    let inserted = sqlx::query_scalar(
        "insert into users (name, email) values ('Ada', $1)
         on conflict (lower(email)) do nothing returning id",
    );
    let inserted = inserted.bind(email).fetch_optional(&world.database.pool);
    inserted.await.expect("an insertion")
}

async fn status(api: &Api, email: &str) -> StatusCode {
    api.post(&user(email)).await.status()
}

#[tokio::test]
async fn spellings_of_one_address_are_one_user() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    for (spelling, other) in SPELLINGS {
        let created: Value = api.post(&user(spelling)).await.json().await.expect("JSON");
        assert_eq!(created["email"], spelling, "as the client wrote it");
        assert_eq!(status(&api, other).await, StatusCode::CONFLICT, "{other}");
        assert_eq!(found(&api, other).await, json!([created]));
        // Its user may change the spelling, and nobody else has it meanwhile.
        let id = created["id"].as_i64().expect("an id");
        let changed = api.put(id, &user(other)).await;
        assert_eq!(changed.status(), StatusCode::OK);
        assert_eq!(status(&api, spelling).await, StatusCode::CONFLICT);
        assert_eq!(found(&api, spelling).await[0]["email"], other);
    }
    let somebody = api.create().await;
    let taken = api.put(somebody, &user(SPELLINGS[4].0)).await;
    assert_eq!(taken.status(), StatusCode::CONFLICT);
    assert_eq!(status(&api, "i@example.com").await, StatusCode::CREATED);
    without_normal_form(&world, &[]).await;
}

#[tokio::test]
async fn of_many_spellings_created_at_once_one_is() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    for (round, (spelling, other)) in SPELLINGS.into_iter().enumerate() {
        let create = async |number: usize| {
            let email = [spelling, other][number % 2];
            let key = format!("{round}-{number}");
            let send = async || {
                let request = api.client().post(api.to("/users")).json(&user(email));
                // Some in a transaction of their own.
                let request = match number % 3 {
                    0 => request.header("idempotency-key", &key),
                    _ => request,
                };
                request.send().await.expect("an answer")
            };
            unless_busy(send).await.status()
        };
        let statuses = join_all((0..24).map(create)).await;
        let created = statuses.iter().filter(|it| **it == StatusCode::CREATED);
        assert_eq!(created.count(), 1, "{spelling}: {statuses:?}");
        assert!(
            statuses
                .iter()
                .all(|it| it.is_success() || *it == StatusCode::CONFLICT)
        );
    }
}

#[tokio::test]
async fn spellings_of_one_address_in_an_import_are_one_user() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    let lines = SPELLINGS
        .iter()
        .flat_map(|(spelling, other)| [spelling, other]);
    let body: String = lines.map(|email| format!("{}\n", user(email))).collect();
    let request = api.client().post(api.to("/users/import")).body(body);
    let response = request
        .header(header::CONTENT_TYPE, "application/x-ndjson")
        .send();
    let text = response
        .await
        .expect("an answer")
        .text()
        .await
        .expect("text");
    assert!(
        text.ends_with("{\"done\":{\"created\":5,\"refused\":5}}\n"),
        "{text}"
    );
}

#[tokio::test]
async fn what_an_older_release_writes_gets_its_normal_form() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    let id = insert_as_before(&world, "Ada@Bücher.example")
        .await
        .expect("a user");
    assert_eq!(found(&api, "ada@bücher.example").await[0]["id"], id);
    without_normal_form(&world, &[]).await;
    let punycode = "ada@xn--bcher-kva.example";
    assert_eq!(status(&api, punycode).await, StatusCode::CONFLICT);
    assert_eq!(insert_as_before(&world, "ada@BÜCHER.example").await, None);

    sqlx::query("update users set email = 'ada@Österreich.example' where id = $1")
        .bind(id)
        .execute(&world.database.pool)
        .await
        .expect("an update");
    assert_eq!(status(&api, punycode).await, StatusCode::CREATED);
    without_normal_form(&world, &[]).await;
    assert_eq!(
        status(&api, "ada@xn--sterreich-z7a.example").await,
        StatusCode::CONFLICT
    );
}

#[tokio::test]
async fn an_address_in_an_open_transaction_holds_up_no_other_normal_form() {
    let world = World::new().await;
    let _api = world.serve(&["--no-relay"]).await;
    let mut taking = world.database.pool.begin().await.expect("a transaction");
    sqlx::query(
        "insert into users (name, email, normal_email)
         values ('Ada', 'ada@xn--bcher-kva.example', 'ada@xn--bcher-kva.example')",
    )
    .execute(&mut *taking)
    .await
    .expect("an insertion");
    let both: Vec<i64> = sqlx::query_scalar(
        "insert into users (name, email)
         values ('Ada', 'ada@bücher.example'), ('Bob', 'bob@bücher.example') returning id",
    )
    .fetch_all(&world.database.pool)
    .await
    .expect("users");
    without_normal_form(&world, &both[..1]).await;
    taking.rollback().await.expect("the end of the transaction");
    without_normal_form(&world, &[]).await;
}

#[tokio::test]
async fn an_upgrade_normalizes_all_addresses_and_names_those_that_two_users_share() {
    const OTHERS: i64 = 1200;
    let world = World::new().await;
    migrate_up_to(&world, NORMAL_EMAIL - 1)
        .await
        .expect("the schema of the release before");
    let first = insert_as_before(&world, "ada@bücher.example")
        .await
        .expect("a user");
    let second = insert_as_before(&world, "ada@xn--bcher-kva.example")
        .await
        .expect("a user");
    let invalid = insert_as_before(&world, "ada@xn--a.example")
        .await
        .expect("a user");
    sqlx::query(
        "insert into users (name, email)
         select 'Ada', 'Ada' || number || '@Example.com' from generate_series(1, $1) as number",
    )
    .bind(OTHERS)
    .execute(&world.database.pool)
    .await
    .expect("users");

    let api = world.serve(&["--no-relay"]).await;
    without_normal_form(&world, &[second, invalid]).await;
    let output = eventually("both to be reported", async || {
        let output = api.service.process.output().join("\n");
        (output.contains("different spellings") && output.contains("is not valid"))
            .then_some(output)
    })
    .await;
    assert!(!output.contains("ada@"), "no personal data: {output}");
    assert_eq!(
        status(&api, "ada1200@example.COM").await,
        StatusCode::CONFLICT
    );

    // Both stay as they are and can be changed; there is no third.
    for spelling in ["ADA@bücher.example", "ADA@xn--bcher-kva.example"] {
        assert_eq!(
            status(&api, spelling).await,
            StatusCode::CONFLICT,
            "{spelling}"
        );
    }
    let renamed = json!({"name": "Ada King", "email": "ada@xn--bcher-kva.example"});
    assert_eq!(api.put(second, &renamed).await.status(), StatusCode::OK);
    assert_eq!(api.delete(first).await.status(), StatusCode::NO_CONTENT);
    without_normal_form(&world, &[invalid]).await;
    assert_eq!(
        status(&api, "ada@bücher.example").await,
        StatusCode::CONFLICT
    );
    let mended = api.put(invalid, &user("ada@example.org")).await;
    assert_eq!(mended.status(), StatusCode::OK);
    without_normal_form(&world, &[]).await;
}

#[tokio::test]
async fn a_migration_waits_for_tables_in_use_without_holding_up_others() {
    let world = World::new().await;
    migrate_up_to(&world, NORMAL_EMAIL - 1)
        .await
        .expect("the schema of the release before");
    let mut reader = world.database.pool.begin().await.expect("a transaction");
    sqlx::query("select from users")
        .execute(&mut *reader)
        .await
        .expect("a lock on the table");
    let api = world.serve_unready(&["--no-relay"]).await;
    eventually("another attempt", async || {
        let output = api.service.process.output().join("\n");
        output
            .contains("migrating failed; trying again")
            .then_some(())
    })
    .await;
    assert!(insert_as_before(&world, "ada@example.com").await.is_some());
    drop(reader);
    api.ready().await;
    without_normal_form(&world, &[]).await;
}

/// Brings the schema to this version, as an older release would.
async fn migrate_up_to(world: &World, version: i64) -> Result<(), MigrateError> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../schema/postgres/migrations");
    let all = Migrator::new(std::path::Path::new(path)).await?;
    let earlier = all.iter().filter(|migration| migration.version <= version);
    Migrator::with_migrations(earlier.cloned().collect())
        .run(&world.database.pool)
        .await
}
