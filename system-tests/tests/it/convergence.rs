use testkit::eventually;

use crate::support::{Stack, event};

#[tokio::test]
async fn what_is_written_is_seen_without_a_retry_by_the_client() {
    let stack = Stack::new().await;
    let (users, notifications) = (stack.users(&[]).await, stack.notifications().await);
    assert!(notifications.list().await.is_empty());

    let created = users.create("Ada").await;
    let copy = eventually("the copy", async || notifications.copy_of(created.id).await).await;
    assert_eq!(copy, created);

    let renamed = users.rename(&created, "Ada L.").await;
    eventually("the new name", async || {
        (notifications.copy_of(created.id).await? == renamed).then_some(())
    })
    .await;

    users.delete(&created).await;
    eventually("the end of the copy", async || {
        notifications
            .copy_of(created.id)
            .await
            .is_none()
            .then_some(())
    })
    .await;
    assert!(notifications.list().await.is_empty());
    assert!(stack.converged().await.is_empty());
}

#[tokio::test]
async fn one_users_events_end_the_same_in_every_order_and_ten_times_over() {
    let stack = Stack::new().await;
    let (_users, notifications) = (stack.users(&[]).await, stack.notifications().await);
    let history = [
        |id| event("user_created", id, 1),
        |id| event("user_updated", id, 2),
        |id| event("user_updated", id, 3),
    ];
    let orders = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    for (id, order) in (1..).zip(orders) {
        for _ in 0..10 {
            for step in order {
                stack.publish(history[step](id)).await;
            }
        }
    }
    stack.acknowledged(180).await;
    for id in 1..=6 {
        let copy = notifications.copy_of(id).await.expect("a copy");
        assert_eq!(
            (copy.version, copy.name.as_str()),
            (3, "version 3"),
            "user {id}"
        );
    }
}

#[tokio::test]
async fn a_late_update_does_not_bring_a_deleted_user_back() {
    let stack = Stack::new().await;
    let (_users, notifications) = (stack.users(&[]).await, stack.notifications().await);
    stack.publish(event("user_created", 1, 1)).await;
    stack.publish(event("user_deleted", 1, 3)).await;
    stack.publish(event("user_updated", 1, 2)).await;
    stack.acknowledged(3).await;
    assert_eq!(notifications.copy_of(1).await, None);
    assert!(notifications.list().await.is_empty());
}
