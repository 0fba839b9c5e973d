//! What operators and their scripts do with `outbox-relay`.

use testkit::eventually;

use super::support::World;

#[tokio::test]
async fn status_tells_people_and_scripts_what_needs_attention() {
    let world = World::new().await;
    let (code, output) = world.run(&["status"]).await.expect_err("no relay");
    assert_eq!(code, 3, "{output}");
    assert!(
        output.contains("no relay is active, and none ever was"),
        "{output}"
    );

    world
        .execute("select outbox.append('order', '1', 'placed', '{}')")
        .await;
    let mut relay = world.relay(&[]);
    world.published(1).await;
    let output = eventually("all to be well", async || world.run(&["status"]).await.ok()).await;
    assert!(output.contains("active relay: "), "{output}");
    let line = format!(
        "stream {} (all other aggregate types): 0 pending",
        world.stream
    );
    assert!(output.contains(&line), "{output}");
    assert!(output.contains("last sequence 1"), "{output}");

    relay.process.stop().await;
    world
        .execute("select outbox.append('order', '1', 'paid', '{}')")
        .await;
    let (code, output) = world.run(&["status"]).await.expect_err("no relay");
    assert_eq!(code, 3, "{output}");
    assert!(
        output.contains("no relay is active; the last was"),
        "{output}"
    );
    assert!(output.contains("1 pending, the oldest for"), "{output}");
}

#[tokio::test]
async fn an_event_without_a_route_is_parked_shown_and_retried_once_there_is_one() {
    let world = World::new().await;
    let mut relay = world.relay(&[]);
    world
        .execute(
            "select outbox.append('cart', '1', 'filled', '{\"a\":1}', 7);
             select outbox.append('order', '1', 'placed', '{}');",
        )
        .await;
    world.published(1).await;
    eventually("a parked event", async || {
        let (code, output) = world.run(&["status"]).await.err()?;
        (code == 3 && output.contains("1 parked")).then_some(())
    })
    .await;
    let list = world.run(&["list"]).await.expect("a list");
    assert!(list.contains("1  filled  cart 1  version 7"), "{list}");
    let show = world.run(&["show", "1"]).await.expect("an event");
    assert!(show.contains("reason     no route"), "{show}");
    assert!(show.contains("payload    {\"a\":1}"), "{show}");

    relay.process.stop().await;
    let both = format!("order={0}:{1},cart={0}:{1}", world.stream, world.subject);
    let mut environment = world.environment();
    environment.retain(|(name, _)| *name != "RELAY_ROUTES");
    environment.push(("RELAY_ROUTES", both));
    let _relay = testkit::Service::start("outbox-relay", &["run"], &environment);
    world
        .execute("select outbox.append('cart', '1', 'emptied', '{}')")
        .await;
    world.published(2).await;
    let (code, output) = world.run(&["retry", "1"]).await.expect_err("later events");
    assert!(code == 1 && output.contains("--out-of-order"), "{output}");
    world
        .run(&["retry", "1", "--out-of-order"])
        .await
        .expect("it is retried");
    assert_eq!(
        world.published(3).await[2].body,
        r#"{"type":"filled","payload":{"a":1}}"#
    );
    world.run(&["show", "99"]).await.expect_err("there is none");
    world
        .run(&["discard", "1", "--yes"])
        .await
        .expect_err("it is parked no longer");
}

#[tokio::test]
async fn a_stream_that_is_no_longer_configured_is_named_and_can_be_forgotten() {
    let world = World::new().await;
    world
        .execute("insert into outbox.cursor (stream, aggregate_types) values ('OLD', '{old}')")
        .await;
    let _relay = world.relay(&[]);
    world
        .execute("select outbox.append('order', '1', 'placed', '{}')")
        .await;
    world.published(1).await;
    let (code, output) = world.run(&["status"]).await.expect_err("a stream too many");
    assert_eq!(code, 3, "{output}");
    let line = output.lines().find(|line| line.contains("stream OLD"));
    assert!(
        line.is_some_and(|line| line.contains("no longer configured")),
        "{output}"
    );
    let (_, output) = world
        .run(&["forget", &world.stream, "--yes"])
        .await
        .expect_err("in use");
    assert!(output.contains("the active relay publishes to"), "{output}");
    world
        .run(&["forget", "OLD", "--yes"])
        .await
        .expect("it is forgotten");
    world
        .run(&["forget", "OLD", "--yes"])
        .await
        .expect_err("it is gone");
    eventually("all to be well", async || world.run(&["status"]).await.ok()).await;
}
