use futures::{StreamExt, stream};

use crate::support::Stack;

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_users_arrive_equal_field_by_field() {
    const USERS: usize = 20_000;
    let stack = Stack::new().await;
    let (users, _notifications) = (stack.users(&[]).await, stack.notifications().await);
    stream::iter(0..USERS)
        .for_each_concurrent(32, async |number| {
            users.create(&format!("Ada {number}")).await;
        })
        .await;
    stack.drained().await;
    assert_eq!(stack.converged().await.len(), USERS);
}
