use crate::support::Stack;

#[tokio::test]
async fn a_lost_copy_is_rebuilt_by_a_republish() {
    let stack = Stack::new().await;
    let (users, notifications) = (stack.users(&[]).await, stack.notifications().await);
    for number in 0..20 {
        let user = users.create(&format!("Ada {number}")).await;
        users.rename(&user, &format!("Ada L. {number}")).await;
        if number % 4 == 0 {
            users.delete(&user).await;
        }
    }
    stack.converged().await;
    stack
        .mongo
        .collection("user_notifications")
        .drop()
        .await
        .expect("the copy is lost");
    assert!(notifications.list().await.is_empty());

    let mut republish = stack.start("user-service", &["republish", "--all"]);
    assert!(republish.process.ended().await.success());
    assert_eq!(stack.converged().await.len(), 15);
}
