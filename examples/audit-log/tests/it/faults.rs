//! An event has one entry although processes are killed and servers go away.

use testkit::{Proxy, eventually};

use crate::support::{Event, World, is_ready, ready};

/// `host:port` of a URL.
fn address(url: &str) -> String {
    let (_, rest) = url.split_once("//").expect("a URL");
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    host.split(['/', '?']).next().expect("a host").to_owned()
}

/// The same URL by way of a proxy.
async fn behind_proxy(url: &str) -> (Proxy, String) {
    let server = address(url);
    let proxy = Proxy::start(server.clone()).await;
    let url = url.replace(&server, &proxy.address().to_string());
    (proxy, url)
}

#[tokio::test]
async fn an_instance_that_is_killed_between_commit_and_acknowledgement_has_recorded_the_event_once()
{
    let world = World::new().await;
    let (proxy, url) = behind_proxy(&world.nats_url).await;
    let mut killed = world.serve_with(&[("NATS_URL", url)]).await;
    // Events still come; acknowledgements do not get through.
    proxy.hold_client();
    world.publish(&Event::new(1, 1)).await;
    eventually("the entry", async || {
        (world.recorded().await.len() == 1).then_some(())
    })
    .await;
    killed.process.kill();
    let consumer = world.stream().await.consumer_info(&world.consumer).await;
    assert_eq!(consumer.expect("the consumer").num_ack_pending, 1);

    let _next = world.serve().await;
    world.settled().await;
    world.recorded_once(1).await;
}

#[tokio::test]
async fn several_instances_record_each_event_once_although_some_are_killed() {
    let world = World::new().await;
    let mut instances = [
        world.serve().await,
        world.serve().await,
        world.serve().await,
    ];
    let mut events = Vec::new();
    for (round, instance) in instances.iter_mut().take(2).enumerate() {
        let first = i64::try_from(round).expect("few") * 2_000;
        let more: Vec<_> = (first..first + 2_000)
            .map(|id| Event::new(id + 1, 1))
            .collect();
        world.publish_all(&more).await;
        // Repeats, on their way to any of the instances.
        world.publish_again(&more[..500]).await;
        events.extend(more);
        instance.process.kill();
    }
    world.recorded_once(events.len()).await;
}

#[tokio::test]
async fn events_wait_for_postgres_and_are_recorded_once_it_is_back() {
    let world = World::new().await;
    let (proxy, url) = behind_proxy(&world.database.url).await;
    let service = world.serve_with(&[("DATABASE_URL", url)]).await;
    world.publish(&Event::new(1, 1)).await;
    world.recorded_once(1).await;

    proxy.cut();
    let events: Vec<_> = (2..=500).map(|id| Event::new(id, 1)).collect();
    world.publish_all(&events).await;
    eventually("a service that is not ready", async || {
        (!is_ready(&service).await).then_some(())
    })
    .await;
    assert_eq!(world.recorded().await.len(), 1);
    proxy.pass();
    ready(&service).await;
    world.recorded_once(500).await;

    // Connections that fall silent are replaced, too.
    proxy.black_hole();
    world.publish(&Event::new(501, 1)).await;
    world.recorded_once(501).await;
}
