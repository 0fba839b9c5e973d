use std::time::Duration;

use futures::FutureExt;
use serde_json::json;
use service_runtime::progress::Progress;
use testkit::{eventually, postgres::Database};
use tokio::{sync::oneshot, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Creation, Creator, Request, creation};
use crate::users::{
    draft::Draft,
    store::{self, NewUser, StoreError},
};

async fn lanes(database: &Database) -> (Creation, [Creator; 2]) {
    let url = database.url.parse().expect("a URL");
    crate::migrations::migrate(&url).await.expect("a schema");
    let pool = |milliseconds| {
        postgres_pool::pool(&url, 4, Duration::from_millis(milliseconds)).expect("a pool")
    };
    creation(&pool(50), pool(250))
}

fn start(creators: [Creator; 2]) {
    for creator in creators {
        let progress = Progress::new("creators");
        tokio::spawn(creator.run(progress, CancellationToken::new(), Duration::ZERO));
    }
}

fn user(name: &str, email: &str) -> NewUser {
    let body = json!({ "name": name, "email": email }).to_string();
    NewUser {
        draft: Draft::parse(body.as_bytes()).expect("a draft"),
        event_headers: None,
    }
}

fn anyone(name: &str) -> NewUser {
    user(name, &format!("{}@example.com", Uuid::now_v7().simple()))
}

async fn names(database: &Database) -> Vec<String> {
    sqlx::query_scalar("select name from users order by name")
        .fetch_all(&database.pool)
        .await
        .expect("names")
}

#[tokio::test]
async fn a_creation_whose_client_has_gone_is_not_carried_out() {
    let database = Database::create().await;
    let (creation, creators) = lanes(&database).await;
    for _ in 0..3 {
        let gone = creation.create(anyone("gone")).now_or_never();
        assert!(gone.is_none(), "it waits in the queue");
    }
    start(creators);
    let created = creation.create(anyone("here")).await;
    created.expect("a user");
    assert_eq!(names(&database).await, ["here"]);
}

#[tokio::test]
async fn a_creation_that_waited_too_long_is_refused_and_not_carried_out() {
    let database = Database::create().await;
    let (creation, creators) = lanes(&database).await;
    let (answer, answered) = oneshot::channel();
    let late = Request {
        user: anyone("late"),
        context: None,
        start_before: Instant::now(),
        answer,
    };
    assert!(creation.requests.try_send(late).is_ok());
    start(creators);
    let refused = answered.await.expect("an answer");
    assert!(matches!(refused, Err(StoreError::TooLate)), "{refused:?}");
    assert_eq!(names(&database).await, Vec::<String>::new());
}

#[tokio::test]
async fn of_many_creations_only_those_of_held_addresses_fail_and_later_ones_keep_apart() {
    let database = Database::create().await;
    let (creation, creators) = lanes(&database).await;
    let mut held = database.pool.begin().await.expect("a transaction");
    for email in ["a@held.example", "b@held.example"] {
        sqlx::query("insert into users (name, email) values ('holder', $1)")
            .bind(email)
            .execute(&mut *held)
            .await
            .expect("a user");
    }

    let unrelated = (0..100).map(|_| creation.create(anyone("unrelated")));
    let unrelated = futures::future::join_all(unrelated);
    let same = ["a@held.example", "B@held.example", "A@held.example"];
    let same = same.map(|email| creation.create(user("held", email)));
    let same = futures::future::join_all(same);
    let both = async { tokio::join!(unrelated, same) };
    start(creators);
    let (unrelated, same) = both.await;
    assert!(unrelated.iter().all(Result::is_ok));
    for refused in same {
        assert!(matches!(refused, Err(StoreError::Locked)), "{refused:?}");
    }
    assert!(creation.contended_addresses.contains("a@held.example"));
    assert!(creation.contended_addresses.contains("b@held.example"));

    held.rollback().await.expect("a rollback");
    eventually("the address to be free", async || {
        let created = creation.create(user("held", "a@held.example")).await;
        created.is_ok().then_some(())
    })
    .await;
    assert!(!creation.contended_addresses.contains("a@held.example"));
}

/// Ids were written that the sequence does not know, and it can't be moved. The statement of both has
/// committed by the time that this is found out.
#[tokio::test]
async fn a_user_who_was_created_is_told_so_though_another_of_the_same_statement_was_not() {
    let database = Database::create().await;
    let (creation, creators) = lanes(&database).await;
    sqlx::query(
        "insert into users (id, name, email) overriding system value
         values (1, 'restored', 'r1@example.com'), (10, 'restored', 'r10@example.com')",
    )
    .execute(&database.pool)
    .await
    .expect("users");
    sqlx::query("drop function repair_users_id_seq")
        .execute(&database.pool)
        .await
        .expect("no such function");
    let refused = creation.create(user("refused", "a@example.com"));
    let created = creation.create(user("created", "b@example.com"));
    let both = async { tokio::join!(refused, created) };
    start(creators);
    let (refused, created) = both.await;
    assert!(
        matches!(refused, Err(StoreError::Refused(_))),
        "{refused:?}"
    );
    assert_eq!(created.expect("a user").id, 2);
}

/// As after a logical replication, which brings rows but no sequences. The last user was created and
/// deleted meanwhile: its id is known from the ledger alone.
const LOSE_THE_SEQUENCE: &str = r#"
    insert into users (name, email) values
        ('a', 'a@example.com'), ('b', 'b@example.com'), ('c', 'c@example.com');
    select outbox.append('user', id::text, 'user_deleted', '{}', 2) from users where id = 3;
    delete from users where id = 3;
    select setval('users_id_seq', 1, false);
"#;
const LAST_ID: i64 = 3;

#[tokio::test]
async fn creations_that_meet_ids_in_use_succeed_with_ids_beyond_all_that_are_known() {
    let database = Database::create().await;
    let (creation, creators) = lanes(&database).await;
    let lose = sqlx::raw_sql(LOSE_THE_SEQUENCE).execute(&database.pool);
    lose.await.expect("statements that run");
    start(creators);
    let first = creation.create(anyone("Ada")).await.expect("a user");
    assert!(first.id > LAST_ID);
    let taken = creation.create(user("Eve", "a@example.com")).await;
    let others = (0..20).map(|_| creation.create(anyone("Ada")));
    for created in futures::future::join_all(others).await {
        assert!(created.expect("a user").id > LAST_ID);
    }
    assert!(matches!(taken, Err(StoreError::EmailTaken)), "{taken:?}");
}

#[tokio::test]
async fn a_creation_in_a_transaction_of_its_own_succeeds_though_it_meets_ids_in_use() {
    let database = Database::create().await;
    let _schema = lanes(&database).await;
    let lose = sqlx::raw_sql(LOSE_THE_SEQUENCE).execute(&database.pool);
    lose.await.expect("statements that run");
    let url = database.url.parse().expect("a URL");
    let pool = postgres_pool::pool(&url, 1, Duration::from_secs(1)).expect("a pool");
    let mut transaction = pool.begin().await.expect("a transaction");
    let created = store::create(&mut transaction, &[&anyone("Ada"), &anyone("Eve")]).await;
    transaction.commit().await.expect("a commit");
    for created in created.expect("answers") {
        assert!(created.expect("a user").id > LAST_ID);
    }
}
