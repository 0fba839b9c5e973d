//! `GET /users/digests`: what a copy is compared with.

use proptest::{
    collection::vec,
    prelude::{Strategy, any},
    strategy::ValueTree,
    test_runner::TestRunner,
};
use reqwest::StatusCode;
use serde_json::Value;
use shared_events::user_digest;
use sqlx::types::chrono::{DateTime, Utc};

use crate::support::{Api, World};

async fn digests(api: &Api, query: &str) -> Value {
    let response = api.get(&format!("/users/digests{query}")).await;
    assert_eq!(response.status(), StatusCode::OK);
    response.json().await.expect("JSON")
}

/// The first id of each range, and how many users it has.
fn counts(digests: &Value) -> Vec<(i64, i64)> {
    let ranges = digests["ranges"].as_array().expect("ranges").iter();
    let count = |range: &Value| Some((range["first"].as_i64()?, range["users"].as_i64()?));
    ranges.filter_map(count).collect()
}

async fn add(world: &World, first: i64, last: i64, step: i64) {
    let users = sqlx::query(
        "insert into users (id, name, email) overriding system value
         select id, 'Ada', id || '@example.com' from generate_series($1, $2, $3) as id",
    );
    let users = users.bind(first).bind(last).bind(step);
    users.execute(&world.database.pool).await.expect("users");
}

#[tokio::test]
async fn only_ranges_that_have_users_are_told_and_each_answer_is_bounded() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    let none = digests(&api, "").await;
    assert_eq!(counts(&none), []);
    assert_eq!(none["through"], i64::MAX);

    add(&world, 1, 20, 1).await;
    add(&world, 1_000_000_000_000, 1_000_000_000_000, 1).await;
    let all = digests(&api, "?size=16").await;
    assert_eq!(counts(&all), [(1, 15), (16, 5), (1_000_000_000_000, 1)]);
    assert_eq!(all["through"], i64::MAX);
    let part = digests(&api, "?size=16&first=10&last=17").await;
    assert_eq!(counts(&part), [(10, 6), (16, 2)]);
    assert_eq!(part["through"], 17);
    assert_eq!(counts(&digests(&api, "?first=30&last=3").await), []);

    // More users than one answer covers.
    add(&world, 101, 70_100, 1).await;
    let first = digests(&api, "?first=101&size=65536").await;
    assert_eq!(counts(&first), [(101, 65_435)]);
    assert_eq!(first["through"], 65_535);
    // More ranges than one answer has, each with one user.
    let singles = digests(&api, "?first=101&size=1").await;
    assert_eq!(counts(&singles).len(), 1_024);
    assert_eq!(singles["through"], 1_124);
    add(&world, 1_000_000, 20_000_000, 10_000).await;
    let sparse = digests(&api, "?first=1000000&size=10000").await;
    assert_eq!(counts(&sparse).len(), 1_024);
    assert_eq!(sparse["through"], 11_239_999);
}

#[tokio::test]
async fn parameters_that_are_not_valid_are_refused() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    for bad in ["first=0", "last=x", "size=65537", "size=-1"] {
        let response = api.get(&format!("/users/digests?{bad}")).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{bad}");
    }
}

/// What Postgres computes is what the shared definition says, whatever the settings of sessions.
#[tokio::test]
async fn postgres_and_the_definition_agree_on_any_user() {
    let world = World::new().await;
    let mut api = world.serve(&["--no-relay"]).await;
    world
        .execute(
            "do $$ begin
                 execute format('alter database %I set timezone to ''Asia/Kathmandu''', current_database());
                 execute format('alter database %I set datestyle to ''German''', current_database());
                 execute format('alter database %I set extra_float_digits to -15', current_database());
                 execute format('alter database %I set bytea_output to ''escape''', current_database());
                 execute format('alter database %I set intervalstyle to ''sql_standard''', current_database());
             end $$",
        )
        .await;
    api.service.process.stop().await;
    let api = world.serve(&["--no-relay"]).await;

    let text = || "(\\PC|[\\t\\n\"'\\\\ %,;😀ßéㄱ\u{1}\u{301}\u{fffd}]){0,40}";
    let earliest = DateTime::<Utc>::from_timestamp_millis(-62_000_000_000_000).expect("a time");
    let milliseconds = earliest.timestamp_millis()..253_402_300_799_999;
    let user = (text(), text(), milliseconds, any::<i64>());
    let mut runner = TestRunner::deterministic();
    let users = vec(user, 400)
        .new_tree(&mut runner)
        .expect("users")
        .current();
    for (id, (name, email, milliseconds, version)) in (1..).zip(&users) {
        let updated_at = DateTime::<Utc>::from_timestamp_millis(*milliseconds).expect("a time");
        sqlx::query(
            "insert into users (id, name, email, updated_at, version) overriding system value
             values ($1, $2, $1 || $3, $4, $5)",
        )
        .bind::<i64>(id)
        .bind(name)
        .bind(email)
        .bind(updated_at)
        .bind(version)
        .execute(&world.database.pool)
        .await
        .expect("a user");
    }
    let expected = (1..)
        .zip(&users)
        .map(|(id, (name, email, milliseconds, version))| {
            let updated_at = DateTime::from_timestamp_millis(*milliseconds).expect("a time");
            user_digest(id, *version, updated_at, name, &format!("{id}{email}"))
        });
    let expected: Vec<u64> = expected.collect();

    let found = digests(&api, "?size=1").await;
    let found = found["ranges"].as_array().expect("ranges").iter();
    let found: Vec<_> = found
        .map(|it| it["digest"].as_str().expect("a digest").to_owned())
        .collect();
    let singles: Vec<_> = expected.iter().map(|it| format!("{it:016x}")).collect();
    assert_eq!(found, singles);
    let sum = expected.iter().fold(0_u64, |sum, it| sum.wrapping_add(*it));
    let whole = digests(&api, "").await;
    assert_eq!(whole["ranges"][0]["digest"], format!("{sum:016x}"));
}
