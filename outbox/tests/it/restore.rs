//! A database that was restored to an earlier state, while the stream goes on from the later one.

use crate::{
    accounts::REGISTER,
    support::{RunningRelay, Target, World},
};

/// Writes, a backup, writes that the backup does not have, the restore: no relay runs.
async fn restored() -> (World, Target) {
    let world = World::with_accounts().await;
    let accounts = Target::new("account");
    let relay = start(&world, &accounts);
    for id in ["changed", "deleted", "untouched"] {
        world.change(id, "before").await;
    }
    world.drained(&accounts).await;
    world.holds(&accounts, 3).await;
    relay.stop().await;
    world.save().await;

    let relay = start(&world, &accounts);
    world.change("changed", "lost").await;
    world.change("changed", "lost again").await;
    world.delete("deleted").await;
    world.change("created", "lost").await;
    world.holds(&accounts, 7).await;
    world.drained(&accounts).await;
    relay.stop().await;
    world.restore().await;
    (world, accounts)
}

fn start(world: &World, accounts: &Target) -> RunningRelay {
    world.relay(&[accounts.route("account")], &[])
}

#[tokio::test]
async fn after_a_restore_the_copy_becomes_what_the_database_has_and_versions_only_increase() {
    let (world, accounts) = restored().await;
    world.execute(REGISTER).await;
    let relay = start(&world, &accounts);
    world.converges(&accounts).await;
    world.assert_versions_increase(&accounts).await;
    let copy = world.copy(&accounts).await;
    assert_eq!(copy["changed"], (4, Some("before".to_owned())));
    assert_eq!(copy["deleted"], (3, Some("before".to_owned())));
    assert_eq!(copy["untouched"], (1, Some("before".to_owned())));
    assert_eq!(copy["created"], (2, None));
    world.change("created", "after").await;
    world.drained(&accounts).await;
    relay.stop().await;
}

/// They take the ids and the versions of those that were lost.
#[tokio::test]
async fn writes_after_the_restore_and_before_the_relay_are_superseded_and_not_lost() {
    let (world, accounts) = restored().await;
    world.execute(REGISTER).await;
    world.change("changed", "after").await;
    world.change("untouched", "after").await;
    world.change("deleted", "after").await;
    world.change("created elsewhere", "after").await;
    let relay = start(&world, &accounts);
    world.converges(&accounts).await;
    world.drained(&accounts).await;
    world.assert_versions_increase(&accounts).await;
    assert_eq!(
        world.copy(&accounts).await["changed"],
        (4, Some("after".to_owned()))
    );
    relay.stop().await;
    // A later relay finds nothing to do.
    let messages = world.messages(&accounts).await.len();
    let relay = start(&world, &accounts);
    world.change("untouched", "at last").await;
    world.converges(&accounts).await;
    assert_eq!(world.messages(&accounts).await.len(), messages + 1);
    relay.stop().await;
}

#[tokio::test]
async fn a_second_restore_during_the_reconciliation_is_reconciled_as_well() {
    let (world, accounts) = restored().await;
    world.execute(REGISTER).await;
    let relay = start(&world, &accounts);
    world
        .has(3, "outbox.orphan where restated_at is not null")
        .await;
    world.change("changed", "lost once more").await;
    relay.crash().await;
    world.restore().await;
    world
        .execute("update outbox.lease set expires_at = '-infinity'")
        .await;
    let relay = start(&world, &accounts);
    world.converges(&accounts).await;
    world.drained(&accounts).await;
    relay.stop().await;
}

/// The step in between is repeated, and not done twice.
#[tokio::test]
async fn a_crash_before_the_restating_loses_no_orphan() {
    let (world, accounts) = restored().await;
    // A lock that cannot be had is tried again.
    world
        .execute(
            "create function refuse(text[], bigint[]) returns setof text language plpgsql as $$
             begin raise exception using errcode = 'lock_not_available'; end $$;
             insert into outbox.aggregate values ('account', 'public.refuse')",
        )
        .await;
    let relay = start(&world, &accounts);
    world
        .has(3, "outbox.orphan where restated_at is null")
        .await;
    relay.crash().await;
    world
        .execute("update outbox.aggregate set restate = 'public.restate_accounts'")
        .await;
    let relay = start(&world, &accounts);
    world.converges(&accounts).await;
    world.assert_versions_increase(&accounts).await;
    relay.stop().await;
}

#[tokio::test]
async fn a_crash_between_the_restating_and_the_publishing_restates_nothing_twice() {
    let (world, accounts) = restored().await;
    world.execute(REGISTER).await;
    let stream = world.stream(&accounts).await;
    let open = stream.cached_info().config.clone();
    let full = async_nats::jetstream::stream::Config {
        max_messages: 7,
        ..open.clone()
    };
    world
        .jetstream
        .update_stream(full)
        .await
        .expect("a full stream");
    let relay = start(&world, &accounts);
    world
        .has(3, "outbox.orphan where restated_at is not null")
        .await;
    relay.crash().await;
    world
        .jetstream
        .update_stream(open)
        .await
        .expect("a stream with room");
    let relay = start(&world, &accounts);
    world.converges(&accounts).await;
    world.drained(&accounts).await;
    world.assert_versions_increase(&accounts).await;
    assert_eq!(world.messages(&accounts).await.len(), 10);
    relay.stop().await;
}

#[tokio::test]
async fn a_type_without_a_function_is_kept_for_later_and_holds_up_nothing() {
    let (world, accounts) = restored().await;
    let relay = start(&world, &accounts);
    world.change("another", "after").await;
    world.holds(&accounts, 8).await;
    world
        .has(3, "outbox.orphan where restated_at is null")
        .await;
    // As soon as there is one, it is used.
    world.execute(REGISTER).await;
    world.converges(&accounts).await;
    relay.stop().await;
}

/// One aggregate that the function fails for.
#[tokio::test]
async fn what_can_not_be_restated_holds_up_neither_the_others_nor_the_relay() {
    let (world, accounts) = restored().await;
    world
        .execute(
            "create function fails_once(ids text[], versions bigint[]) returns setof text
             language plpgsql as $$
             begin
                 if 'deleted' = any (ids) then raise exception 'not this one'; end if;
                 return query select * from restate_accounts(ids, versions);
             end $$;
             insert into outbox.aggregate values ('account', 'public.fails_once')",
        )
        .await;
    let relay = start(&world, &accounts);
    world
        .has(1, "outbox.orphan where error like 'not this one%'")
        .await;
    world
        .has(2, "outbox.orphan where restated_at is not null")
        .await;
    world.change("another", "after").await;
    world.drained(&accounts).await;
    assert_eq!(world.copy(&accounts).await["created"], (2, None));
    relay.stop().await;
}

#[tokio::test]
async fn what_is_left_out_is_asked_for_again_while_publishing_goes_on() {
    let (world, accounts) = restored().await;
    world
        .execute(
            "create function leaves_out(ids text[], versions bigint[]) returns setof text
             language sql as $$
             select restate_accounts(array_agg(id), array_agg(version))
             from unnest(ids, versions) as wanted (id, version) where id <> 'deleted' $$;
             insert into outbox.aggregate values ('account', 'public.leaves_out')",
        )
        .await;
    let relay = start(&world, &accounts);
    let waits = "outbox.orphan where restated_at is null and retry_at is not null";
    world.has(1, waits).await;
    world.change("another", "after").await;
    world.drained(&accounts).await;
    let check = outbox::reconciliation::check(world.database.pool.clone().into());
    let error = check.run().await.expect_err("one waits").to_string();
    assert!(error.starts_with("1 aggregates"), "{error}");
    world
        .execute(
            "update outbox.aggregate set restate = 'public.restate_accounts';
             update outbox.orphan set retry_at = clock_timestamp() where retry_at is not null",
        )
        .await;
    world.converges(&accounts).await;
    world.has(0, waits).await;
    check.run().await.expect("none waits");
    relay.stop().await;
}

#[tokio::test]
async fn a_lock_holds_up_its_own_aggregate_alone() {
    let (world, accounts) = restored().await;
    world.execute(REGISTER).await;
    let mut holder = world.database.pool.begin().await.expect("a transaction");
    sqlx::query("select from account where id = 'deleted' for update")
        .execute(&mut *holder)
        .await
        .expect("a lock");
    let relay = start(&world, &accounts);
    world
        .has(2, "outbox.orphan where restated_at is not null")
        .await;
    holder.commit().await.expect("a commit");
    world.converges(&accounts).await;
    relay.stop().await;
}

#[tokio::test]
async fn a_function_that_is_not_there_is_said_once_for_all() {
    let (world, accounts) = restored().await;
    world
        .execute("insert into outbox.aggregate values ('account', 'public.nothing')")
        .await;
    let relay = start(&world, &accounts);
    world
        .has(3, "outbox.orphan where error like '%(42883)'")
        .await;
    world.change("another", "after").await;
    world.drained(&accounts).await;
    relay.stop().await;
}

/// It has an id that was lost, and nobody can see it yet.
#[tokio::test]
async fn a_creation_in_flight_is_not_restated_as_deleted() {
    let (world, accounts) = restored().await;
    world.execute(REGISTER).await;
    let mut creation = world.database.pool.begin().await.expect("a transaction");
    sqlx::raw_sql(
        "insert into account values ('created', 1, 'after');
         select outbox.append('account', 'created', 'account_changed', '{\"name\": \"after\"}', 1)",
    )
    .execute(&mut *creation)
    .await
    .expect("a creation");
    let relay = start(&world, &accounts);
    let lock_or_end = "(select from outbox.orphan where restated_at is not null union all
                        select from pg_locks join pg_database on pg_database.oid = database
                        where not granted and datname = current_database() limit 1) as either";
    world.has(3, "outbox.orphan").await;
    world.has(1, lock_or_end).await;
    creation.commit().await.expect("a commit");
    world.converges(&accounts).await;
    world.assert_versions_increase(&accounts).await;
    relay.stop().await;
}

#[tokio::test]
async fn what_has_left_the_stream_unread_is_reported_and_publishing_goes_on() {
    let (world, accounts) = restored().await;
    world.execute(REGISTER).await;
    let stream = world.stream(&accounts).await;
    let purged = stream.purge().sequence(6).await;
    purged.expect("a purge");
    let relay = start(&world, &accounts);
    world
        .has(1, "outbox.cursor where unreconciled_since is not null")
        .await;
    world.change("another", "after").await;
    world.drained(&accounts).await;
    relay.stop().await;
}

/// Also if others around them are still there.
#[tokio::test]
async fn a_message_that_was_deleted_before_it_could_be_looked_up_is_left_to_an_operator() {
    let (world, accounts) = restored().await;
    world.execute(REGISTER).await;
    let stream = world.stream(&accounts).await;
    stream.delete_message(5).await.expect("gone");
    let relay = start(&world, &accounts);
    world
        .has(1, "outbox.cursor where unreconciled_since is not null")
        .await;
    world.change("another", "after").await;
    world.drained(&accounts).await;
    relay.stop().await;
}

/// What they say is lost with them is another event.
#[tokio::test]
async fn an_event_that_was_lost_is_published_again_though_an_orphan_has_its_id() {
    let (world, accounts) = restored().await;
    world.execute(REGISTER).await;
    world.change("created elsewhere", "after").await;
    let taken = world.messages(&accounts).await.len();
    let relay = start(&world, &accounts);
    world.converges(&accounts).await;
    world.drained(&accounts).await;
    let messages = world.messages(&accounts).await;
    let of_elsewhere = |(id, ..): &(String, i64, Option<String>)| id == "created elsewhere";
    let index = messages.iter().position(of_elsewhere);
    let index = index.expect("a message");
    assert!(index >= taken, "it is none of the orphans: {messages:?}");

    let stream = world.stream(&accounts).await;
    let sequence = index as u64 + 1;
    stream.delete_message(sequence).await.expect("gone");
    world.is_refilled(&accounts, sequence).await;
    world.converges(&accounts).await;
    relay.stop().await;
}

#[tokio::test]
async fn a_relay_that_crashed_finds_no_orphans_among_its_own_events() {
    let world = World::with_accounts().await;
    let accounts = Target::new("account");
    let relay = start(&world, &accounts);
    world.change("a", "1").await;
    world.holds(&accounts, 1).await;
    world.drained(&accounts).await;
    world.save().await;
    for name in ["2", "3", "4"] {
        world.change("a", name).await;
    }
    world.holds(&accounts, 4).await;
    world.drained(&accounts).await;
    relay.crash().await;
    // As if it had crashed before it saved the cursor.
    world
        .execute(
            "delete from outbox.cursor; insert into outbox.cursor select * from saved.cursor;
             update outbox.lease set expires_at = '-infinity'",
        )
        .await;
    let relay = start(&world, &accounts);
    world.change("a", "5").await;
    world.holds(&accounts, 5).await;
    world.drained(&accounts).await;
    assert_eq!(world.count("outbox.orphan").await, 0);
    relay.stop().await;
}
