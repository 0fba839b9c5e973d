//! `POST /users/import`.

use std::{fmt::Write, io, pin::pin};

use bytes::Bytes;
use futures::{
    StreamExt,
    channel::mpsc,
    future::{Either, select},
};
use reqwest::{Body, Response, StatusCode, header};
use serde_json::{Value, json};
use testkit::eventually;

use crate::{
    api::{assert_problem, events},
    support::{Api, World},
};

pub(crate) async fn import(
    api: &Api,
    query: &str,
    key: Option<&str>,
    body: impl Into<Body>,
) -> Response {
    let mut request = api
        .client()
        .post(api.to(&format!("/users/import{query}")))
        .header(header::CONTENT_TYPE, "application/x-ndjson")
        .body(body);
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    request.send().await.expect("an answer")
}

/// The results, each a line.
pub(crate) async fn results(response: Response) -> Vec<Value> {
    assert_eq!(response.status(), StatusCode::OK);
    let text = response.text().await.expect("text");
    let results = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    results.collect()
}

pub(crate) fn users(numbers: impl Iterator<Item = usize>) -> String {
    let mut lines = String::new();
    for number in numbers {
        let line = json!({"name": "Ada", "email": format!("ada{number}@example.com")});
        writeln!(lines, "{line}").expect("memory");
    }
    lines
}

pub(crate) async fn count(world: &World) -> i64 {
    sqlx::query_scalar("select count(*) from users")
        .fetch_one(&world.database.pool)
        .await
        .expect("a count")
}

#[tokio::test]
async fn every_line_gets_its_result_and_bad_lines_cost_only_themselves() {
    let world = World::new().await;
    let api = world.serve(&[]).await;
    api.post(&json!({"name": "Eve", "email": "taken@example.com"}))
        .await;
    let long = format!(r#"{{"name": "{}"}}"#, "x".repeat(70_000));
    let lines = [
        r#"{"name": "Ada", "email": "ada@example.com"}"#,
        "",
        r#"{"name": " ", "email": "nobody"}"#,
        r#"{"name": "Eve", "email": "TAKEN@example.com"}"#,
        r#"{"name": "Ada", "email": "ADA@example.com"}"#,
        "not JSON",
        &long,
        r#"{"name": "Bob", "email": "bob@example.com"}"#,
    ];
    let answers = results(import(&api, "", None, lines.join("\n")).await).await;
    let told: Vec<_> = (answers.iter())
        .map(|it| (it["line"].as_i64(), it["problem"]["status"].as_i64()))
        .collect();
    assert_eq!(
        told,
        [
            (Some(1), None),
            (Some(3), Some(422)),
            (Some(4), Some(409)),
            (Some(5), Some(409)),
            (Some(6), Some(400)),
            (Some(7), Some(413)),
            (Some(8), None),
            (None, None),
        ]
    );
    assert_eq!(answers[7], json!({"done": {"created": 2, "refused": 5}}));
    assert_eq!(answers[1]["problem"]["errors"][1]["pointer"], "/email");
    let user: Value = api
        .get(&format!("/users/{}", answers[0]["id"]))
        .await
        .json()
        .await
        .expect("a user");
    assert_eq!(user["email"], "ada@example.com");
    world.published(3).await;
}

#[tokio::test]
async fn of_two_lines_with_one_address_the_first_has_it_wherever_the_second_is() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    let body = users((0..2500).chain(0..1).chain(2000..2001));
    let answers = results(import(&api, "", None, body).await).await;
    let refused: Vec<_> = (answers.iter())
        .filter(|it| it["problem"].is_object())
        .map(|it| it["line"].as_i64())
        .collect();
    assert_eq!(refused, [Some(2501), Some(2502)]);
    assert_eq!(events(&world).await, 2500);
}

#[tokio::test]
async fn results_come_while_the_body_is_still_being_sent() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    let (mut sender, receiver) = mpsc::unbounded();
    let mut send = |text: String| {
        let sent: Result<_, io::Error> = Ok(Bytes::from(text));
        sender.start_send(sent).expect("a listener");
    };
    send(users(0..1000));
    let response = import(&api, "", None, Body::wrap_stream(receiver)).await;
    let mut results = response.bytes_stream();
    let first = results.next().await.expect("results").expect("bytes");
    assert!(first.starts_with(br#"{"line":1,"id":"#), "{first:?}");
    assert_eq!(count(&world).await, 1000);
    send(users(1000..1500));
    sender.disconnect();
    let rest: Vec<_> = results.map(|bytes| bytes.expect("bytes")).collect().await;
    assert!(
        rest.concat()
            .ends_with(b"{\"done\":{\"created\":1500,\"refused\":0}}\n")
    );
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_whole_chunks_and_goes_on_under_its_key() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    let (sender, receiver) = mpsc::unbounded();
    let send = |part| sender.unbounded_send(part).expect("a listener");
    send(Ok(Bytes::from(users(0..1000))));
    let response = import(&api, "", Some("k"), Body::wrap_stream(receiver)).await;
    send(Ok(Bytes::from(users(1000..1700))));
    send(Err(io::Error::other("the client is gone")));
    let received = response.bytes_stream().collect::<Vec<_>>().await;
    assert!(received.iter().any(Result::is_err), "the connection broke");
    assert_eq!(count(&world).await, 1000);

    let answers = results(import(&api, "", Some("k"), users(0..1700)).await).await;
    assert_eq!(answers.len(), 1701);
    assert_eq!(
        answers[1700],
        json!({"done": {"created": 1700, "refused": 0}})
    );
    assert_eq!(events(&world).await, 1700);
    let again = results(import(&api, "", Some("k"), users(0..1700)).await).await;
    assert_eq!(again, answers);
    assert_eq!(events(&world).await, 1700);

    let other = import(&api, "", Some("k"), users(1..1700)).await;
    assert_problem(other, StatusCode::UNPROCESSABLE_ENTITY, "").await;
    let later = import(&api, "", Some("k"), users((0..1000).chain(5000..5001))).await;
    let later = results(later).await;
    assert_eq!(later[1000]["broken_off"]["line"], 1001);
    assert_eq!(later[1000]["broken_off"]["problem"]["status"], 422);
    assert_eq!(count(&world).await, 1700);
}

#[tokio::test]
async fn a_byte_order_mark_before_the_first_line_makes_no_difference() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    for mode in ["", "?mode=all-or-nothing"] {
        let (key, body) = match mode {
            "" => (Some("each"), users(0..2)),
            _ => (Some("all"), users(2..4)),
        };
        let marked = results(import(&api, mode, key, format!("\u{feff}{body}")).await).await;
        let done = json!({"done": {"created": 2, "refused": 0}});
        assert_eq!(marked.last(), Some(&done), "{marked:?}");
        let repeated = results(import(&api, mode, key, body).await).await;
        assert_eq!(repeated, marked);
    }
    assert_eq!(count(&world).await, 4);
}

#[tokio::test]
async fn all_or_nothing_is_just_that() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    let mode = "?mode=all-or-nothing";
    let mut faulty = users((0..1500).chain(0..1));
    faulty.push_str("nobody\n");
    let refused = import(&api, mode, Some("k"), faulty).await;
    assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let problem: Value = refused.json().await.expect("a problem");
    assert_eq!(problem["lines"][0]["line"], 1501);
    assert_eq!(problem["lines"][0]["problem"]["status"], 409);
    assert_eq!(problem["lines"][1]["line"], 1502);
    assert_eq!((count(&world).await, events(&world).await), (0, 0));

    let done = json!({"done": {"created": 1500, "refused": 0}});
    for _ in 0..2 {
        let answer = import(&api, mode, Some("k"), users(0..1500)).await;
        assert_eq!(results(answer).await, std::slice::from_ref(&done));
    }
    assert_eq!((count(&world).await, events(&world).await), (1500, 1500));
    let other = import(&api, mode, Some("k"), users(0..1501)).await;
    assert_problem(other, StatusCode::UNPROCESSABLE_ENTITY, "").await;
}

#[tokio::test]
async fn what_is_no_import_is_refused() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    let bad_mode = import(&api, "?mode=some", None, "").await;
    assert_problem(bad_mode, StatusCode::BAD_REQUEST, "mode").await;
    let request = api.client().post(api.to("/users/import")).json(&json!([]));
    let other_type = request.send().await.expect("an answer");
    assert_problem(other_type, StatusCode::UNSUPPORTED_MEDIA_TYPE, "").await;
    let nothing = results(import(&api, "", None, "\n\n").await).await;
    assert_eq!(nothing, [json!({"done": {"created": 0, "refused": 0}})]);
}

#[tokio::test]
async fn imports_that_wait_for_their_clients_hold_up_no_others() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    let mut waiting = Vec::new();
    for number in 0..6 {
        let (sender, receiver) = mpsc::unbounded::<Result<Bytes, io::Error>>();
        let lines = users(number * 1000..(number + 1) * 1000);
        sender.unbounded_send(Ok(lines.into())).expect("a listener");
        let response = import(&api, "", None, Body::wrap_stream(receiver)).await;
        waiting.push((sender, response));
    }
    let other = results(import(&api, "", None, users(9000..9001)).await).await;
    assert_eq!(other[1]["done"]["created"], 1);
}

/// The import has one address and waits for the other, whose holder then asks for the first.
#[tokio::test]
async fn a_chunk_that_a_deadlock_has_rolled_back_is_written_again() {
    let world = World::new().await;
    let pool = &world.database.pool;
    // The import is to notice it, not its opponent.
    sqlx::raw_sql(
        "do $$ begin
             execute format('alter database %I set deadlock_timeout = 400', current_database());
         end $$",
    )
    .execute(pool)
    .await
    .expect("a setting");
    let api = world.serve(&["--no-relay"]).await;
    for (name, key) in [("ada", None), ("eve", Some("key"))] {
        let [first, second] = ["a", "b"].map(|host| format!("{name}@{host}.example"));
        let hold = "insert into users (name, email, normal_email) values ('holder', $1, $1)";
        eventually("an import that outlives a deadlock", async || {
            let mut opponent = pool.begin().await.expect("a transaction");
            sqlx::raw_sql("set local deadlock_timeout = '1min'")
                .execute(&mut *opponent)
                .await
                .expect("a setting");
            let held = sqlx::query(hold).bind(&second).execute(&mut *opponent);
            held.await.expect("a user");
            let body =
                [&first, &second].map(|email| json!({"name": name, "email": email}).to_string());
            let importing = import(&api, "", key, body.join("\n"));
            let crossing = async {
                world.lock_is_waited_for().await;
                let held = sqlx::query(hold).bind(&first).execute(&mut *opponent);
                held.await.expect("a user");
                opponent.rollback().await.expect("a rollback");
            };
            // 503 if the opponent was too late for a deadlock, so that the import waited too long.
            let response = match select(pin!(importing), pin!(crossing)).await {
                Either::Left((response, _)) => response,
                Either::Right(((), importing)) => importing.await,
            };
            (response.status() == StatusCode::OK).then_some(())
        })
        .await;
    }
    assert_eq!(count(&world).await, 4);
}
