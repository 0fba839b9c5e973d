use testkit::{Proxy, eventually};

use crate::support::{Stack, assert_in_order, is_active};

#[tokio::test]
async fn a_standby_takes_over_from_a_relay_that_was_killed() {
    let stack = Stack::new().await;
    let (users, _notifications) = (
        stack.users(&["--no-relay"]).await,
        stack.notifications().await,
    );
    let mut active = stack.relay().await;
    let standby = stack.start("user-service", &["relay"]);
    let user = users.create("Ada").await;
    stack.converged().await;

    active.process.kill();
    users.rename(&user, "Ada L.").await;
    is_active(&standby).await;
    stack.converged().await;
    assert!(stack.epoch().await >= 2);
}

#[tokio::test]
async fn a_standby_takes_over_from_a_relay_that_lost_its_database() {
    let mut stack = Stack::new().await;
    let (users, _notifications) = (
        stack.users(&["--no-relay"]).await,
        stack.notifications().await,
    );
    let direct = stack.postgres.url.clone();
    let server = url_authority(&direct);
    let proxy = Proxy::start(server.clone()).await;
    stack.postgres.url = direct.replace(&server, &proxy.address().to_string());
    let cut_off = stack.relay().await;
    stack.postgres.url = direct;
    let standby = stack.start("user-service", &["relay"]);
    let user = users.create("Ada").await;
    stack.converged().await;

    proxy.cut();
    users.rename(&user, "Ada L.").await;
    is_active(&standby).await;
    stack.converged().await;
    proxy.pass();
    // Back again it stands by, and takes over in its turn.
    let mut standby = standby;
    eventually("the other to notice", async || {
        let output = cut_off.process.output();
        output
            .iter()
            .any(|line| line.contains("has lost its lease"))
            .then_some(())
    })
    .await;
    standby.process.kill();
    users.rename(&user, "Ada K.").await;
    stack.converged().await;
    assert_in_order(&stack.events().await);
    assert!(stack.epoch().await >= 3);
}

#[tokio::test]
async fn a_frozen_relay_that_wakes_after_losing_its_place_does_no_harm() {
    let stack = Stack::new().await;
    let (users, _notifications) = (
        stack.users(&["--no-relay"]).await,
        stack.notifications().await,
    );
    let frozen = stack.relay().await;
    let standby = stack.start("user-service", &["relay"]);
    let mut all = Vec::new();
    for number in 0..20 {
        all.push(users.create(&format!("Ada {number}")).await);
    }
    // Frozen in the middle of its work, with events in hand.
    let writing = async {
        for round in 0..300_usize {
            users
                .rename(&all[round % 20], &format!("Ada L. {round}"))
                .await;
            match round {
                100 => frozen.process.freeze(),
                200 => is_active(&standby).await,
                250 => frozen.process.thaw(),
                _ => {}
            }
        }
    };
    writing.await;
    eventually("the woken relay to stand by", async || {
        let output = frozen.process.output();
        output
            .iter()
            .any(|line| line.contains("has lost its lease"))
            .then_some(())
    })
    .await;
    stack.converged().await;
    let events = stack.events().await;
    assert_in_order(&events);
    let ids: std::collections::BTreeSet<_> = events.iter().map(|(id, _)| id).collect();
    assert_eq!(ids.len(), 320, "nothing is lost");
    assert!(stack.epoch().await >= 2);
}

#[tokio::test]
async fn a_relay_that_stops_in_good_order_hands_over() {
    let stack = Stack::new().await;
    let (users, _notifications) = (
        stack.users(&["--no-relay"]).await,
        stack.notifications().await,
    );
    let mut active = stack.relay().await;
    let standby = stack.start("user-service", &["relay"]);
    users.create("Ada").await;
    let ended = sqlx::query_scalar("select expires_at <= clock_timestamp() from outbox.lease");
    assert!(active.process.stop().await.success());
    let ended: bool = ended
        .fetch_one(&stack.postgres.pool)
        .await
        .expect("the lease");
    assert!(
        ended || stack.epoch().await > 1,
        "the lease is given up, not left to expire"
    );
    is_active(&standby).await;
    users.create("Grace").await;
    assert_eq!(stack.converged().await.len(), 2);
}

/// `host:port`
fn url_authority(url: &str) -> String {
    let authority = url.split('@').next_back().expect("a host");
    authority.split('/').next().expect("a host").to_owned()
}
