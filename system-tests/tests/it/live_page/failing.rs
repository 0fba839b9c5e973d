//! Parked events and dead letters.

use testkit::eventually;

use super::Shown;
use crate::support::Stack;

const READ: &str = "read-only-token-0123456789";
const REPAIR: &str = "repairing-token-0123456789";

#[tokio::test]
async fn failing_items_are_retried_and_discarded_many_at_once() {
    let mut shown = Shown::new().await;
    // An event of a type that no stream takes, and messages that are no events.
    sqlx::query("insert into outbox.event (aggregate_type, aggregate_id, event_type, payload) values ('order', '1', 'changed', '{}')")
        .execute(&shown.stack.postgres.pool)
        .await
        .expect("an event");
    for body in ["one", "two", "three"] {
        shown.stack.publish(body).await;
    }
    shown.browser.shows("four failing items", &items(4)).await;
    let reasons = shown.browser.text_of("#failing-rows").await;
    assert!(
        reasons.contains("no route for the aggregate type"),
        "{reasons}"
    );
    assert!(reasons.contains("not json"), "{reasons}");

    let letter = "#failing-rows tr[data-key='letter 1']";
    shown.browser.click(&format!("{letter} input")).await;
    shown.browser.click("#failing-retry").await;
    let retried = format!(
        "document.querySelector('#failing-result').textContent === '1 item was retried.'
         && document.querySelector(\"{letter}\") === null && {}",
        items(4)
    );
    // It fails of the same, as another dead letter.
    shown.browser.shows("that it was retried", &retried).await;

    shown.browser.click("#failing-all").await;
    shown.browser.click("#failing-discard").await;
    shown.browser.click("#confirm-yes").await;
    let gone = format!(
        "document.querySelector('#failing-result').textContent === '4 items were discarded.' && {}",
        items(0)
    );
    shown.browser.shows("that all were discarded", &gone).await;
    eventually("no parked event", async || {
        let parked = "select count(*) from outbox.parked";
        let parked: i64 = sqlx::query_scalar(parked)
            .fetch_one(&shown.stack.postgres.pool)
            .await
            .ok()?;
        (parked == 0).then_some(())
    })
    .await;
    shown.is_clean().await;
}

#[tokio::test]
async fn a_token_that_may_only_read_shows_what_fails_and_cannot_change_it() {
    let stack = Stack::new().await;
    let tokens = format!("read {READ},repair {REPAIR}");
    let mut shown = Shown::with(stack, &["--tokens", &tokens]).await;
    shown.stack.publish("no event").await;
    let asked = "document.querySelector('#token-dialog')?.open === true";
    shown.browser.shows("the prompt for a token", asked).await;
    shown.browser.fill("#token-input", READ).await;
    shown.browser.press("Enter").await;
    shown
        .browser
        .shows("both feeds", super::CONTROLS_READY)
        .await;
    shown.browser.shows("the dead letter", &items(1)).await;
    shown.browser.click("#failing-all").await;
    let refused = "document.querySelector('#failing-retry').disabled && document.querySelector('#failing-discard').disabled
        && document.querySelector('#failing-rights').textContent.includes('lacks the scope “repair”')
        && document.querySelector('#create').disabled
        && document.querySelector('#change-rights').textContent.includes('lacks the scope “write”')";
    shown
        .browser
        .shows("why it cannot be changed", refused)
        .await;

    shown.browser.click("#token-button").await;
    shown.browser.fill("#token-input", REPAIR).await;
    shown.browser.press("Enter").await;
    shown.browser.click("#failing-discard").await;
    shown.browser.click("#confirm-yes").await;
    shown.browser.shows("nothing that fails", &items(0)).await;
    shown.is_clean().await;
}

fn items(count: usize) -> String {
    format!("document.querySelectorAll('#failing-rows tr').length === {count}")
}
