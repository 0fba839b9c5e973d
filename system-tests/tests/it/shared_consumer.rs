//! Several notification services on one consumer: what one takes and does not finish, others do.

use testkit::{Proxy, eventually};

use crate::support::{Api, Stack};

/// A notification service, and the proxy between it and MongoDB.
async fn behind_proxy(stack: &Stack) -> (Api, Proxy) {
    let (_, hosts) = stack.mongo.uri.split_once("//").expect("a URI");
    let host = hosts.split(['/', '?']).next().expect("a host");
    let proxy = Proxy::start(host.to_owned()).await;
    let uri = format!("mongodb://{}/?directConnection=true", proxy.address());
    let arguments = ["serve", "--mongodb-uri", &uri];
    let service = stack.start("notification-service", &arguments);
    (Api::ready(service).await, proxy)
}

async fn has_events_in_hand(stack: &Stack) {
    let stream = stack.stream().await;
    eventually("events in hand", async || {
        let consumer = stream.consumer_info(stack.consumer()).await.ok()?;
        (consumer.num_ack_pending > 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn one_that_is_frozen_with_events_in_hand_undoes_nothing_when_it_wakes() {
    let stack = Stack::new().await;
    let users = stack.users(&[]).await;
    let (frozen, proxy) = behind_proxy(&stack).await;
    let ada = users.create("Ada").await;
    let eve = users.create("Eve").await;
    stack.converged().await;

    // Its write is under way, and stays there past the ack wait.
    proxy.hold_client();
    users.rename(&ada, "Ada in between").await;
    users.rename(&eve, "Eve in between").await;
    has_events_in_hand(&stack).await;
    frozen.service.process.freeze();
    let _awake = stack.notifications().await;
    users.rename(&ada, "Ada King").await;
    users.delete(&eve).await;
    assert_eq!(stack.converged().await[0].name, "Ada King");

    proxy.pass();
    frozen.service.process.thaw();
    let seen = eventually("an answer of the one that was frozen", async || {
        frozen.copy_of(ada.id).await
    })
    .await;
    assert_eq!(seen.name, "Ada King");
    users.create("Grace").await;
    let rows = stack.converged().await;
    assert_eq!((rows.len(), rows[0].version), (2, 3));
}

#[tokio::test]
async fn what_one_has_that_is_killed_or_cut_off_from_mongodb_others_apply() {
    let stack = Stack::new().await;
    let users = stack.users(&[]).await;
    let (_cut_off, proxy) = behind_proxy(&stack).await;
    let mut killed = stack.notifications().await;
    let _healthy = stack.notifications().await;
    let write = async |from: usize| {
        for number in from..from + 50 {
            let user = users.create(&format!("Ada {number}")).await;
            users.rename(&user, &format!("Ada L. {number}")).await;
        }
    };
    write(0).await;
    proxy.cut();
    write(50).await;
    killed.service.process.kill();
    write(100).await;
    assert_eq!(stack.converged().await.len(), 150);
}
