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

/// The outbox has dropped the events of all users but one when the stream is lost: the new stream
/// begins at sequence 1 as well.
#[tokio::test]
async fn a_rebuild_from_a_stream_that_was_lost_takes_no_user_away() {
    let stack = Stack::new().await;
    let (users, notifications) = (stack.users(&[]).await, stack.notifications().await);
    let mut created = Vec::new();
    for number in 0..4 {
        created.push(users.create(&format!("Ada {number}")).await);
    }
    stack.converged().await;
    let dropped =
        "delete from outbox.event where id <= 3; update outbox.ledger set ledger_from = 4;";
    let dropped = sqlx::raw_sql(dropped).execute(&stack.postgres.pool).await;
    dropped.expect("as after the retention");
    let jetstream = stack.jetstream().await;
    let deleted = jetstream.delete_stream(&stack.topic.stream).await;
    deleted.expect("the stream is lost");
    testkit::eventually("the stream again", async || {
        let stream = jetstream.get_stream(&stack.topic.stream).await.ok()?;
        (stream.cached_info().state.messages == 1).then_some(())
    })
    .await;

    let mut rebuild = stack.start("notification-service", &["rebuild"]);
    assert!(!rebuild.process.ended().await.success());
    assert_eq!(notifications.list().await.len(), 4);

    let mut republish = stack.start("user-service", &["republish", "--all"]);
    assert!(republish.process.ended().await.success());
    let renamed = users.rename(&created[0], "Ada King").await;
    // While the projector goes back, its consumer is made anew, which ends the pause of a rebuild.
    stack.converged().await;
    let mut rebuild = stack.start("notification-service", &["rebuild"]);
    let done = rebuild.process.ended().await.success();
    assert!(done, "{:?}", rebuild.process.output());
    assert_eq!(stack.converged().await.len(), 4);
    assert_eq!(notifications.copy_of(renamed.id).await, Some(renamed));
}
