use super::Owned;
use crate::{
    relay::{failure::Failure, lease::Lease},
    tests::{create_database, pool_of},
};

#[tokio::test]
async fn a_relay_that_has_lost_the_lease_begins_no_session() {
    let database = create_database().await;
    let (pool, identity) = pool_of(&database).await;
    let cursor = "insert into outbox.cursor (stream, epoch) values ('ACCOUNTS', 7)";
    let cursor = sqlx::query(cursor).execute(&database.pool).await;
    cursor.expect("a cursor");
    for (epoch, identity) in [(6, identity), (7, "1/1/1".to_owned())] {
        let lease = Lease { epoch, identity };
        let begun = Owned::begin(&pool, &lease, "ACCOUNTS").await;
        assert!(matches!(begun, Err(Failure::LeaseLost)), "{begun:?}");
    }
}
