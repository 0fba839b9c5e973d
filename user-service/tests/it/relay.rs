use reqwest::StatusCode;
use shared_events::UserEvent;
use testkit::{Service, eventually, nats};

use crate::support::{World, assert_in_order, user};

#[tokio::test]
async fn events_carry_the_contract_and_follow_the_changes() {
    let world = World::new().await;
    let api = world.serve(&[]).await;
    let id = api.create().await;
    api.rename(id, "Ada L.").await;
    api.delete(id).await;
    let events = world.published(3).await;
    let [created, updated, deleted] = &events[..] else {
        panic!("expected three events, got {}", events.len());
    };
    assert!(matches!(&created.event, UserEvent::UserCreated(state) if state.version == 1));
    assert!(matches!(&updated.event, UserEvent::UserUpdated(state) if state.name == "Ada L."));
    assert!(matches!(&deleted.event, UserEvent::UserDeleted(state) if state.version == 3));
    // To the byte: people look for it with grep.
    let message = world
        .stream()
        .await
        .get_raw_message(1)
        .await
        .expect("a message");
    let body = String::from_utf8(message.payload.to_vec()).expect("text");
    let start = format!(r#"{{"type":"user_created","payload":{{"id":{id},"name":"Ada","email":""#);
    assert!(body.starts_with(&start), "{body}");
    assert!(body.ends_with(r#"Z","version":1}}"#), "{body}");
}

#[tokio::test]
async fn the_trace_of_the_request_travels_with_its_event() {
    let world = World::new().await;
    let api = world.serve(&[]).await;
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let request = api.client().post(api.to("/users")).json(&user("Ada"));
    let response = request.header("traceparent", traceparent).send().await;
    assert_eq!(response.expect("an answer").status(), StatusCode::CREATED);
    world.published(1).await;
    let message = world
        .stream()
        .await
        .get_raw_message(1)
        .await
        .expect("a message");
    assert_eq!(
        message
            .headers
            .get("traceparent")
            .expect("a header")
            .as_str(),
        traceparent
    );
    assert_eq!(
        message.headers.get("ce-type").expect("a header").as_str(),
        "user_created"
    );
}

/// The relay polls once a minute at most here: only waiting within Postgres can be in time.
#[tokio::test]
async fn a_write_in_another_process_wakes_the_relay() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    let mut environment = world.environment();
    environment.push(("RELAY_POLL_INTERVAL", "1m".to_owned()));
    let relay = Service::start("user-service", &["relay"], &environment);
    eventually("an active relay", async || {
        let output = relay.process.output();
        output
            .iter()
            .any(|line| line.contains("stream is up to date"))
            .then_some(())
    })
    .await;
    // The first write may be found by the first look; those that follow wait for the wake-up.
    for count in 1..=20 {
        api.create().await;
        let started = std::time::Instant::now();
        world.published(count).await;
        assert!(started.elapsed().as_secs() < 50, "found by polling");
    }
}

#[tokio::test]
async fn writes_go_on_without_nats_and_are_published_when_it_is_back() {
    let mut nats = nats::Server::start().await;
    let world = World::with_nats(nats.url()).await;
    let api = world.serve(&[]).await;
    let id = api.create().await;
    world.published(1).await;
    nats.kill();
    for round in 0..20 {
        api.rename(id, &format!("Ada {round}")).await;
        api.create().await;
    }
    nats.restart().await;
    assert_in_order(&world.published(41).await);
    world.drained().await;
}

/// As after the server's clock was set back while a relay was active that is gone now.
#[tokio::test]
async fn a_lease_that_would_last_an_hour_is_taken_from_an_owner_that_is_gone() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    world
        .execute("update outbox.lease set epoch = 1, expires_at = now() + interval '1 hour'")
        .await;
    let _relay = Service::start("user-service", &["relay"], &world.environment());
    api.create().await;
    world.published(1).await;
}

#[tokio::test]
async fn an_event_that_jetstream_refuses_is_parked_and_holds_up_no_other() {
    // Room for the stream's own requests, but not for the longest name.
    let directory = tempfile::tempdir().expect("a directory");
    let small = directory.path().join("small.conf");
    std::fs::write(&small, "max_payload: 1200").expect("a file");
    let small = small.to_str().expect("UTF-8");
    let nats = nats::Server::start_with(&["-c", small]).await;
    let world = World::with_nats(nats.url()).await;
    let api = world.serve(&[]).await;
    let before = api.create().await;
    let trace_id = "0af7651916cd43dd8448eb211c80319c";
    let too_large = (api.client().post(api.to("/users")))
        .header("traceparent", format!("00-{trace_id}-b7ad6b7169203331-01"))
        .json(&user(&"🦀".repeat(255)));
    let too_large = too_large.send().await.expect("an answer");
    assert_eq!(too_large.status(), StatusCode::CREATED);
    let after = api.create().await;
    let events = world.published(2).await;
    let ids: Vec<_> = events.iter().map(|it| it.event.state().id).collect();
    assert_eq!(ids, [before, after]);
    world.drained().await;

    let (_, listed) = world.run(&["outbox", "list"]).await;
    assert!(listed.contains("0 pending"), "{listed}");
    assert!(listed.contains("1 parked"), "{listed}");
    assert!(
        listed.contains("3 tries: max payload size exceeded"),
        "{listed}"
    );
    let logged = api.service.process.output();
    let line = logged.iter().find(|line| line.contains("parked an event"));
    let expected = format!(r#""trace_id":"{trace_id}""#);
    assert!(line.is_some_and(|it| it.contains(&expected)), "{line:?}");
}
