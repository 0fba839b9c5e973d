//! A base backup and the archived write-ahead log, recovered to a point before the last writes.

use testkit::postgres::{Archive, BaseBackup, Server};

use super::{DATABASE, Pipeline, is_gone, write, write_instead, write_what_is_lost};

#[tokio::test]
async fn after_a_recovery_to_a_point_in_time_both_sides_agree() {
    let archive = Archive::default();
    let settings = archive.settings();
    let settings: Vec<_> = settings.iter().map(String::as_str).collect();
    let mut server = Server::start_with(&settings).await;
    let backup = BaseBackup::of(&server);
    let mut pipeline = Pipeline::on(&server).await;
    let before = write(&pipeline.users).await;
    pipeline.stack.converged().await;
    server
        .execute(&["select pg_create_restore_point('before_the_accident')"])
        .await;
    write_what_is_lost(&pipeline.users, &before).await;
    let lost = pipeline.users.create("lost").await;
    pipeline.stack.converged().await;
    archive.complete(&server).await;

    pipeline.stop_writers().await;
    server.stop().await;
    let target = "recovery_target_name=before_the_accident";
    let recovered = backup.recover(&archive, target).await;
    pipeline.start_users_at(&recovered).await;
    write_instead(&pipeline.users, &before).await;
    pipeline.relay = pipeline.stack.relay().await;
    pipeline.agrees().await;
    assert!(is_gone(&pipeline.users, &lost).await);
    let users: i64 = sqlx::query_scalar("select count(*) from users")
        .fetch_one(&recovered.database_named(DATABASE).pool)
        .await
        .expect("a count");
    assert_eq!(users, 18 + 5 - 2);
}
