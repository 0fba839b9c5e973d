//! What imports may take, however slow their clients are.

use std::{convert::Infallible, fmt::Write, fs, net::IpAddr, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, channel::mpsc, future::join_all, stream};
use reqwest::{Body, Client, StatusCode, header};
use serde_json::json;
use tempfile::NamedTempFile;
use testkit::eventually;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::interval};

use crate::{
    api::{assert_problem, events},
    import::{count, import, results, users},
    support::{Api, World, user},
};

const WHOLE: &str = "?mode=all-or-nothing";

/// `begun`, then an end of line now and then, for ever.
fn trickling(begun: String) -> Body {
    let trickle = stream::unfold(interval(Duration::from_millis(50)), async |mut interval| {
        interval.tick().await;
        Some((Bytes::from_static(b"\n"), interval))
    });
    let begun = stream::once(async { Bytes::from(begun) });
    Body::wrap_stream(begun.chain(trickle).map(Ok::<_, Infallible>))
}

/// Is sent again whenever it is refused, because another request is on its way, or cut.
async fn trickle(api: &Api, mode: &str, number: usize) -> Infallible {
    loop {
        let body = trickling(users(number..number + 1));
        let response = import(api, mode, None, body).await;
        let _ = response.bytes().await;
    }
}

/// More than is kept in memory.
fn many_bytes(lines: usize) -> String {
    let name = "A".repeat(250);
    let mut body = String::new();
    for number in 0..lines {
        let line = json!({"name": name, "email": format!("a{number}@example.com")});
        writeln!(body, "{line}").expect("memory");
    }
    body
}

async fn idle_transactions(world: &World) -> i64 {
    sqlx::query_scalar(
        "select count(*) from pg_stat_activity
         where state like 'idle in transaction%' and datname = current_database()",
    )
    .fetch_one(&world.database.pool)
    .await
    .expect("a count")
}

#[tokio::test]
async fn an_all_or_nothing_import_begins_its_transaction_when_its_body_is_whole() {
    const LINES: usize = 5000;
    let world = World::new().await;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().to_str().expect("text");
    let api = world
        .serve(&["--no-relay", "--spool-directory", path])
        .await;
    let (sender, receiver) = mpsc::unbounded::<Result<Bytes, Infallible>>();
    let body = many_bytes(LINES);
    let (begun, rest) = body.split_at(body.len() - 10);
    let send = |part: &str| sender.unbounded_send(Ok(part.to_owned().into()));
    send(begun).expect("a listener");
    let importing = import(&api, WHOLE, Some("k"), Body::wrap_stream(receiver));
    let sending = async {
        eventually("a file that has no name", async || has_spooled(&api, path)).await;
        assert_eq!(idle_transactions(&world).await, 0);
        let names = fs::read_dir(path).expect("a directory").count();
        assert_eq!(names, 0, "nothing is left after a crash");
        send(rest).expect("a listener");
        sender.close_channel();
    };
    let (response, ()) = tokio::join!(importing, sending);
    let done = json!({"done": {"created": LINES, "refused": 0}});
    assert_eq!(results(response).await, std::slice::from_ref(&done));
    let repeated = import(&api, WHOLE, Some("k"), body).await;
    assert_eq!(results(repeated).await, [done]);
    assert_eq!(count(&world).await, 5000);
}

/// Whether the service has a deleted file of this directory open.
fn has_spooled(api: &Api, directory: &str) -> Option<()> {
    let descriptors = fs::read_dir(format!("/proc/{}/fd", api.service.process.id())).ok()?;
    let mut files = descriptors.filter_map(|it| fs::read_link(it.ok()?.path()).ok());
    let is_ours = |file: &str| file.starts_with(directory) && file.ends_with("(deleted)");
    files
        .any(|file| file.to_str().is_some_and(is_ours))
        .then_some(())
}

#[tokio::test]
async fn an_all_or_nothing_import_that_is_too_large_or_can_not_be_kept_writes_nothing() {
    let world = World::new().await;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().to_str().expect("text");
    let flags = [
        "--no-relay",
        "--all-or-nothing-max-bytes",
        "2000000",
        "--spool-directory",
        path,
    ];
    let api = world.serve(&flags).await;
    let large = import(&api, WHOLE, None, many_bytes(8000)).await;
    assert_problem(large, StatusCode::PAYLOAD_TOO_LARGE, "").await;
    drop(directory);
    let no_room = import(&api, WHOLE, None, many_bytes(5000)).await;
    assert!(no_room.headers().contains_key(header::RETRY_AFTER));
    assert_problem(no_room, StatusCode::SERVICE_UNAVAILABLE, "").await;
    assert_eq!(count(&world).await, 0);
}

#[tokio::test]
async fn blank_lines_do_not_keep_an_import_alive() {
    let world = World::new().await;
    let flags = [
        "--no-relay",
        "--import-chunk-timeout",
        "500ms",
        "--all-or-nothing-timeout",
        "500ms",
    ];
    let api = world.serve(&flags).await;
    for mode in ["", WHOLE] {
        let refused = import(&api, mode, None, trickling(users(0..1))).await;
        assert_problem(refused, StatusCode::REQUEST_TIMEOUT, "").await;
    }
    let response = eventually("a chunk in time", async || {
        let response = import(&api, "", None, trickling(users(0..1000))).await;
        (response.status() == StatusCode::OK).then_some(response)
    })
    .await;
    let answers = results(response).await;
    let broken_off = &answers[1000]["broken_off"];
    assert_eq!(broken_off["line"], 1001);
    assert_eq!(broken_off["problem"]["status"], 408);
    assert_eq!(count(&world).await, 1000);
}

#[tokio::test]
async fn imports_that_trickle_take_no_place_of_other_requests() {
    const AT_ONCE: usize = 12;
    let world = World::new().await;
    let flags = [
        "--no-relay",
        "--max-concurrent-requests",
        "2",
        "--database-connections",
        "2",
        "--max-imports-per-client",
        "12",
    ];
    let api = world.serve(&flags).await;
    let trickling = (0..AT_ONCE).map(|number| {
        let mode = if number < 2 { WHOLE } else { "" };
        trickle(&api, mode, number)
    });
    let others = async {
        let refused = eventually("one import too many", async || {
            let response = import(&api, "", None, "").await;
            (response.status() == StatusCode::TOO_MANY_REQUESTS).then_some(response)
        })
        .await;
        assert!(refused.headers().contains_key(header::RETRY_AFTER));
        assert_problem(refused, StatusCode::TOO_MANY_REQUESTS, "").await;
        for _ in 0..10 {
            assert_eq!(api.get("/users").await.status(), StatusCode::OK);
            assert_eq!(api.post(&user("Ada")).await.status(), StatusCode::CREATED);
        }
        assert_eq!(idle_transactions(&world).await, 0);
    };
    tokio::select! {
        _ = join_all(trickling) => unreachable!("they go on"),
        () = others => {}
    }
    eventually("room for another import", async || {
        let response = import(&api, "", None, "").await;
        (response.status() == StatusCode::OK).then_some(())
    })
    .await;
}

#[tokio::test]
async fn all_or_nothing_imports_of_one_client_leave_places_for_others() {
    let world = World::new().await;
    let flags = ["--no-relay", "--import-min-rate", "1"];
    let api = world.serve(&flags).await;
    let kept = (0..2).map(|number| trickle(&api, WHOLE, number));
    let others = async {
        eventually("one import too many", async || {
            let response = import(&api, WHOLE, None, "").await;
            (response.status() == StatusCode::TOO_MANY_REQUESTS).then_some(())
        })
        .await;
        let other = Client::builder().local_address(IpAddr::from([127, 0, 0, 2]));
        let other = other.build().expect("a client");
        let request = other.post(api.to(&format!("/users/import{WHOLE}")));
        let request = request.header(header::CONTENT_TYPE, "application/x-ndjson");
        let response = request.body(users(2..3)).send().await;
        let done = json!({"done": {"created": 1, "refused": 0}});
        assert_eq!(results(response.expect("an answer")).await, [done]);
    };
    tokio::select! {
        _ = join_all(kept) => unreachable!("they go on"),
        () = others => {}
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_its_results_is_cut() {
    let world = World::new().await;
    let flags = [
        "--no-relay",
        "--max-imports",
        "1",
        // Long enough for another client to be refused meanwhile, on a busy machine as well.
        "--write-timeout",
        "10s",
    ];
    let api = world.serve(&flags).await;
    let address = api.to("").replace("http://", "");
    let deaf = TcpStream::connect(&address).await.expect("a connection");
    let (mut answer, mut deaf) = deaf.into_split();
    // Each line gets a problem far longer than itself.
    let body = "{}\n".repeat(100_000);
    let head = format!(
        "POST /users/import HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/x-ndjson\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    deaf.write_all(head.as_bytes()).await.expect("a listener");
    let sending = async {
        // Ends with the connection.
        let _ = deaf.write_all(body.as_bytes()).await;
        std::future::pending::<()>().await;
    };
    let others = async {
        // It has the only place by now.
        let mut begun = [0; 12];
        answer.peek(&mut begun).await.expect("an answer");
        assert_eq!(begun, *b"HTTP/1.1 200");
        let expected = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::OK];
        for status in expected {
            eventually("the end of the other import", async || {
                let response = import(&api, "", None, "").await;
                (response.status() == status).then_some(())
            })
            .await;
        }
    };
    tokio::select! {
        () = sending => {}
        () = others => {}
    }
}

#[tokio::test]
async fn sigterm_ends_an_import_with_a_line_that_says_so_and_its_key_goes_on() {
    let world = World::new().await;
    let flags = [
        "--no-relay",
        "--max-imports-per-client",
        "3",
        "--drain-timeout",
        "1min",
        // However long the third one takes to come.
        "--import-min-rate",
        "1",
    ];
    let mut api = world.serve(&flags).await;
    let (sender, receiver) = mpsc::unbounded::<Result<Bytes, Infallible>>();
    let send = |lines: String| sender.unbounded_send(Ok(lines.into()));
    send(users(0..1000)).expect("a listener");
    let response = import(&api, "", Some("k"), Body::wrap_stream(receiver)).await;
    send(users(1000..1500)).expect("a listener");
    // Neither has a whole chunk.
    let waiting = ["", WHOLE].map(async |mode| {
        loop {
            let (sender, receiver) = mpsc::unbounded::<Result<Bytes, Infallible>>();
            let sent = sender.unbounded_send(Ok(users(5000..5001).into()));
            sent.expect("a listener");
            let response = import(&api, mode, None, Body::wrap_stream(receiver)).await;
            // The one that looks whether there is room may have had its place.
            if response.status() != StatusCode::TOO_MANY_REQUESTS {
                break (response, sender);
            }
        }
    });
    let terminating = async {
        eventually("three imports", async || {
            let response = import(&api, "", None, "").await;
            (response.status() == StatusCode::TOO_MANY_REQUESTS).then_some(())
        })
        .await;
        api.service.process.terminate();
        let answers = results(response).await;
        assert_eq!(answers.len(), 1001);
        let broken_off = &answers[1000]["broken_off"];
        assert_eq!(broken_off["line"], 1001);
        assert_eq!(broken_off["problem"]["status"], 503);
        let detail = broken_off["problem"]["detail"].as_str().expect("text");
        assert!(detail.contains("Idempotency-Key"), "{detail}");
    };
    let ((), waited) = tokio::join!(terminating, join_all(waiting));
    for (response, _) in waited {
        assert_problem(response, StatusCode::SERVICE_UNAVAILABLE, "").await;
    }
    assert!(api.service.process.ended().await.success());
    assert_eq!(count(&world).await, 1000);

    let api = world.serve(&["--no-relay"]).await;
    let answers = results(import(&api, "", Some("k"), users(0..1500)).await).await;
    let done = json!({"done": {"created": 1500, "refused": 0}});
    assert_eq!(answers.last(), Some(&done));
    assert_eq!((count(&world).await, events(&world).await), (1500, 1500));
}

#[tokio::test]
async fn a_token_that_is_withdrawn_ends_its_import_and_the_key_goes_on_under_another() {
    let (withdrawn, other) = ("withdrawn-withdrawn", "other-other-other-other");
    let file = NamedTempFile::new().expect("a file");
    let set = |tokens: String| fs::write(file.path(), tokens).expect("written");
    set(format!("write {withdrawn}\nwrite {other}\n"));
    let world = World::new().await;
    let path = file.path().to_str().expect("text");
    let api = world.serve(&["--no-relay", "--token-file", path]).await;
    let import_with = async |token: &str, body: Body| {
        let request = api.client().post(api.to("/users/import"));
        let request = request.header(header::CONTENT_TYPE, "application/x-ndjson");
        let request = request.header("idempotency-key", "k").bearer_auth(token);
        request.body(body).send().await.expect("an answer")
    };
    let (sender, receiver) = mpsc::unbounded::<Result<Bytes, Infallible>>();
    let send = |lines: String| sender.unbounded_send(Ok(lines.into()));
    send(users(0..1000)).expect("a listener");
    let response = import_with(withdrawn, Body::wrap_stream(receiver)).await;
    // No whole chunk, and the body goes on.
    send(users(1000..1500)).expect("a listener");
    set(format!("write {other}\n"));
    let answers = results(response).await;
    assert_eq!(answers.len(), 1001);
    let broken_off = &answers[1000]["broken_off"];
    assert_eq!(broken_off["line"], 1001);
    assert_eq!(broken_off["problem"]["status"], 400);
    assert_eq!(count(&world).await, 1000);

    let refused = import_with(withdrawn, users(0..1500).into()).await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    let answers = results(import_with(other, users(0..1500).into()).await).await;
    let done = json!({"done": {"created": 1500, "refused": 0}});
    assert_eq!(answers.last(), Some(&done));
    assert_eq!((count(&world).await, events(&world).await), (1500, 1500));
}
