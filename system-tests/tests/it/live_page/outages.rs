//! What the page shows while a part is away.

use testkit::{mongodb::Database as Mongo, nats};

use super::{Shown, host, notifications};
use crate::support::Stack;

#[tokio::test]
async fn without_nats_the_backlog_is_seen_to_grow_and_after_its_return_to_drain() {
    let mut server = nats::Server::start().await;
    let stack = Stack::on(server.url(), Mongo::create().await).await;
    let mut shown = Shown::with(stack, &[]).await;
    shown
        .browser
        .shows("both feeds", super::CONTROLS_READY)
        .await;
    shown.create("Ada", "0@example.com").await;
    shown.both_sides_have(1).await;

    server.kill();
    for number in 1..=3 {
        shown.create("Ada", &format!("{number}@example.com")).await;
        let pending =
            format!("document.querySelector('#figure-pending').textContent === '{number}'");
        shown.browser.shows("a longer backlog", &pending).await;
    }
    let said =
        "document.querySelector('#verdict-headline').textContent.startsWith('NATS is unavailable')
        && document.querySelector('#stage-stream').dataset.health === 'unavailable'
        && document.querySelector('#verdict-announcement').textContent.includes('NATS')";
    shown.browser.shows("that NATS is away", said).await;
    let queue = "document.querySelectorAll('#event-rows tr[data-place=outbox]').length === 3";
    shown
        .browser
        .shows("three events in the outbox", queue)
        .await;

    server.restart().await;
    let drained = "document.querySelector('#figure-pending').textContent === '0'
        && document.querySelectorAll('#event-rows tr[data-place=copy]').length === 4";
    shown.browser.shows("an empty outbox", drained).await;
    let well = "document.querySelector('#verdict').dataset.level === 'ok'";
    shown.browser.shows("that all is well", well).await;
    assert_eq!(shown.stack.converged().await.len(), 4);
    shown.is_clean().await;
}

#[tokio::test]
async fn without_the_notification_service_writes_go_on_and_its_copy_is_shown_as_unavailable() {
    let mut shown = Shown::new().await;
    shown.notifications.service.process.kill();
    let away = "document.querySelector('#verdict-headline').textContent.startsWith('The notification service cannot be reached')
        && document.querySelector('#figure-lag').textContent === '–'";
    shown.browser.shows("that the copy is away", away).await;
    shown.create("Ada", "ada@example.com").await;
    let published = "document.querySelector('#event-rows tr[data-place=stream]') !== null";
    shown
        .browser
        .shows("the event on the stream", published)
        .await;
    let written =
        "document.querySelector('#change-result').textContent.startsWith('Created: user 1')";
    shown
        .browser
        .shows("that the user was written", written)
        .await;

    shown.notifications = notifications(&shown.stack, &[]).await;
    shown.front.redirect(host(&shown.notifications.url));
    let applied = "document.querySelector('#event-rows tr[data-place=copy]') !== null
        && document.querySelector('#verdict').dataset.level === 'ok'";
    shown.browser.shows("the event in the copy", applied).await;
    shown.both_sides_have(1).await;
    shown.is_clean().await;
}
