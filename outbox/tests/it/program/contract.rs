//! What the schema promises to producers, and demands of them.

use sqlx::{Connection, Executor, PgConnection};

use super::support::World;

/// Whether the transaction has its xid.
async fn has_xid(db: &mut PgConnection) -> bool {
    sqlx::query_scalar("select pg_current_xact_id_if_assigned() is not null")
        .fetch_one(db)
        .await
        .expect("an answer")
}

#[tokio::test]
async fn whoever_draws_an_id_has_its_xid_first() {
    let world = World::new().await;
    let draws = [
        "select outbox.next_event_id()",
        // Even if the event itself is refused in the end.
        "savepoint draw;
         do $$ begin
             perform outbox.append('order', '1', 'not a name', '{}');
         exception when check_violation then end $$;
         rollback to savepoint draw",
    ];
    for draw in draws {
        let mut transaction = world.pool().begin().await.expect("a transaction");
        assert!(!has_xid(&mut transaction).await);
        transaction.execute(draw).await.expect("an id");
        assert!(has_xid(&mut transaction).await, "{draw}");
    }
    // The control: a plain sequence does not see to it.
    let mut transaction = world.pool().begin().await.expect("a transaction");
    let draw = "select nextval('outbox.event_id_seq')";
    transaction.execute(draw).await.expect("an id");
    assert!(!has_xid(&mut transaction).await);
}

/// The order of evaluation within one row, and with many rows: nobody looks between, so the first
/// id must already be above what the transaction could see before it had its xid.
#[tokio::test]
async fn in_one_statement_the_xid_comes_before_the_first_id_as_well() {
    let world = World::new().await;
    let mut transaction = world.pool().begin().await.expect("a transaction");
    let seen: Vec<bool> = sqlx::query_scalar(
        "select pg_current_xact_id_if_assigned() is not null
         from (select outbox.next_event_id() as id from generate_series(1, 3) offset 0) as drawn",
    )
    .fetch_all(&mut *transaction)
    .await
    .expect("ids");
    assert_eq!(seen, [true; 3]);
}

#[tokio::test]
async fn events_are_appended_in_sets_from_functions_and_savepoints() {
    let world = World::new().await;
    world
        .execute(
            "insert into outbox.event (aggregate_type, aggregate_id, event_type, payload)
             select 'order', id::text, 'set', json_build_object('id', id)
             from generate_series(1, 3) as id order by id;
             create function place(id text) returns bigint language sql as $$
                 select outbox.append('order', id, 'function', '{}')
             $$;
             select place('4');
             begin;
             select outbox.append('order', '5', 'kept', '{}');
             savepoint s;
             select outbox.append('order', '6', 'rolled_back', '{}');
             rollback to savepoint s;
             select outbox.append('order', '7', 'kept', '{}');
             commit;",
        )
        .await;
    let _relay = world.relay(&[]);
    let published = world.published(6).await;
    let ids: Vec<_> = published
        .iter()
        .map(|it| it.aggregate_id.as_str())
        .collect();
    assert_eq!(ids, ["1", "2", "3", "4", "5", "7"]);
    assert_eq!(published[0].body, r#"{"type":"set","payload":{"id" : 1}}"#);
}

#[tokio::test]
async fn what_could_not_be_published_is_refused_with_the_reason() {
    let world = World::new().await;
    for (arguments, reason) in [
        ("'', '1', 't', '{}'", "the aggregate type must have"),
        ("'or der', '1', 't', '{}'", "the aggregate type must have"),
        ("'order', '', 't', '{}'", "the aggregate id must have"),
        (r"'order', E'1\n', 't', '{}'", "the aggregate id must have"),
        (
            "'order', repeat('1', 256), 't', '{}'",
            "the aggregate id must have",
        ),
        ("'order', null, 't', '{}'", "null value"),
        (r#"'order', '1', 't"', '{}'"#, "the event type must have"),
        (
            "'order', '1', repeat('t', 129), '{}'",
            "the event type must have",
        ),
        (
            "'order', '1', 't', '{'",
            "invalid input syntax for type json",
        ),
        (
            "'order', '1', 't', '{}', headers => '[]'",
            "must be a JSON object",
        ),
        (
            r#"'order', '1', 't', '{}', headers => '{"a": 1}'"#,
            "must be a string",
        ),
        (
            r#"'order', '1', 't', '{}', headers => '{"a": "1\n2"}'"#,
            "in one line",
        ),
        (
            r#"'order', '1', 't', '{}', headers => '{"a:": "1"}'"#,
            "the name of a header",
        ),
        (
            r#"'order', '1', 't', '{}', headers => '{"nats-rollup": "all"}'"#,
            "begin with Nats-",
        ),
    ] {
        let append = format!("select outbox.append({arguments})");
        let refused = sqlx::query(sqlx::AssertSqlSafe(append)).execute(world.pool());
        let error = refused.await.expect_err("it is refused").to_string();
        assert!(error.contains(reason), "{arguments}: {error}");
    }
}

#[tokio::test]
async fn a_producer_needs_few_rights_and_can_not_choose_an_id() {
    let world = World::new().await;
    let role = testkit::unique("shop");
    // As the README says.
    world
        .execute(&format!(
            "create role {role};
             grant usage on schema outbox to {role};
             grant execute on function outbox.append to {role};"
        ))
        .await;
    let mut shop = PgConnection::connect(&world.database.url)
        .await
        .expect("a connection");
    let become_shop = format!("set role {role}");
    shop.execute(sqlx::AssertSqlSafe(become_shop))
        .await
        .expect("a role");
    let append = "select outbox.append('order', '1', 'placed', '{}', headers => '{\"a\": \"b\"}')";
    let insert = "insert into outbox.event (aggregate_type, aggregate_id, event_type, payload)
                  select 'order', id, 'placed', '{}' from unnest(array['2', '3']) as id";
    let choose = "insert into outbox.event (id, aggregate_type, aggregate_id, event_type, payload)
                  values (7, 'order', '4', 'placed', '{}')";
    shop.execute(append).await.expect("an event");
    shop.execute(insert)
        .await
        .expect_err("append alone is allowed");
    world
        .execute(&format!(
            "grant usage on sequence outbox.event_id_seq to {role};
             grant insert (event_id, aggregate_type, aggregate_id, event_type, version, payload, headers)
                 on outbox.event to {role};"
        ))
        .await;
    shop.execute(insert).await.expect("events");
    shop.execute(choose).await.expect_err("ids are drawn");
    shop.execute("select * from outbox.event")
        .await
        .expect_err("it can't read");
    world
        .execute(&format!("drop owned by {role}; drop role {role};"))
        .await;
}

async fn identity(session: &mut PgConnection) -> String {
    sqlx::query_scalar("select outbox.database_identity()")
        .fetch_one(session)
        .await
        .expect("an identity")
}

/// A session keeps what can't change while it lasts.
#[tokio::test]
async fn the_identity_of_a_database_is_told_in_every_statement_and_to_every_role() {
    let world = World::new().await;
    let parts = "select (select system_identifier from pg_control_system())::text,
                        ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer,
                        (select oid from pg_database where datname = current_database())::text";
    let (system, timeline, database): (String, i32, String) =
        (sqlx::query_as(parts).fetch_one(world.pool()).await).expect("an identity");
    let connect = async || PgConnection::connect(&world.database.url).await;
    let mut session = connect().await.expect("a session");
    let expected = format!("{system}/{timeline}/{database}");
    for statements in ["begin", "rollback", "select 1"] {
        assert_eq!(identity(&mut session).await, expected);
        session.execute(statements).await.expect("a statement");
    }

    // Where the server's administrator keeps these questions to himself.
    let role = testkit::unique("relay");
    world
        .execute(&format!(
            "create role {role};
             grant usage on schema outbox to {role};
             revoke execute on function pg_control_system() from public;
             revoke execute on function pg_walfile_name(pg_lsn) from public;"
        ))
        .await;
    let mut session = connect().await.expect("a session");
    let become_relay = format!("set role {role}");
    session
        .execute(sqlx::AssertSqlSafe(become_relay))
        .await
        .expect("a role");
    for _ in 0..2 {
        assert_eq!(identity(&mut session).await, format!("0/0/{database}"));
    }
    world
        .execute(&format!("drop owned by {role}; drop role {role};"))
        .await;
}
