use testkit::eventually;

use crate::support::{Stack, event};

#[tokio::test]
async fn what_is_no_event_stops_nobody_and_is_set_aside_whole() {
    let stack = Stack::new().await;
    let (users, notifications) = (stack.users(&[]).await, stack.notifications().await);
    let poison: [&[u8]; 4] = [
        b"not json at all",
        b"\xff\xfe\x00",
        br#"{"type":"user_merged","payload":{"id":1}}"#,
        br#"{"type":"user_created","payload":{"id":1}}"#,
    ];
    for body in poison {
        stack.publish(body).await;
        let next = users.create("Ada").await;
        eventually("the event behind it", async || {
            notifications.copy_of(next.id).await
        })
        .await;
    }
    stack.publish(event("user_created", 1000, 1)).await;
    eventually("the last event", async || notifications.copy_of(1000).await).await;

    let mut set_aside = eventually("four dead letters", async || {
        let letters = stack.dead_letters().await?;
        (letters.len() == poison.len()).then_some(letters)
    })
    .await;
    let mut expected: Vec<_> = poison.iter().map(|body| body.to_vec()).collect();
    set_aside.sort();
    expected.sort();
    assert_eq!(set_aside, expected);
}
