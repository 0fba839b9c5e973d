//! Messages that leave the stream before they are read, and effects that are lost after they were read.

use std::time::Duration;

use anyhow::ensure;
use event_consumer::{
    Holes,
    holes::{Position, PositionStore, StoredPosition},
};
use service_runtime::progress::Progress;
use testkit::eventually;
use tokio::sync::watch;

use crate::support::{Log, Running, World};

/// Shared by the consumers of a test, as a database would be.
#[derive(Debug, Clone, Default)]
struct InMemory(watch::Sender<Store>);

#[derive(Debug, Clone, Default)]
struct Store {
    /// How often it was put back.
    server: u32,
    position: Option<StoredPosition>,
    loads: u32,
    is_away: bool,
}

impl PositionStore for InMemory {
    async fn load(&self) -> anyhow::Result<Option<StoredPosition>> {
        self.0.send_modify(|store| store.loads += 1);
        ensure!(!self.0.borrow().is_away, "the store is away");
        Ok(self.0.borrow().position.clone())
    }

    async fn server(&self) -> anyhow::Result<Option<String>> {
        Ok(Some(self.0.borrow().server.to_string()))
    }

    async fn save(&self, stored: &StoredPosition, expected: Option<i64>) -> anyhow::Result<bool> {
        Ok(self.0.send_if_modified(|store| {
            if store.position.as_ref().map(|it| it.revision) != expected {
                return false;
            }
            store.position = Some(stored.clone());
            true
        }))
    }
}

impl InMemory {
    fn position(&self) -> Option<Position> {
        Some(self.0.borrow().position.as_ref()?.position.clone())
    }

    fn backup(&self) -> Option<StoredPosition> {
        self.0.borrow().position.clone()
    }

    fn restore(&self, backup: Option<StoredPosition>) {
        self.0.send_modify(|store| {
            store.server += 1;
            store.position = backup;
        });
    }

    /// The server goes on, and does not know.
    fn write_back(&self, backup: Option<StoredPosition>) {
        self.0.send_modify(|store| store.position = backup);
    }

    /// Waits until a look that begins now is over.
    async fn looked_at(&self) {
        let loads = self.0.borrow().loads;
        eventually("two looks", async || {
            (self.0.borrow().loads >= loads + 3).then_some(())
        })
        .await;
    }

    fn ranges(&self) -> Vec<(i64, i64)> {
        let holes = self.position().unwrap_or_default().holes;
        let ranges = holes.iter().map(|it| (it.range.first, it.range.last));
        ranges.collect()
    }

    async fn kept(&self, settled: i64) {
        eventually("the position to be kept", async || {
            (self.position()?.settled == settled).then_some(())
        })
        .await;
    }
}

fn holes(world: &World, store: &InMemory) -> Holes<InMemory> {
    Holes::new(store.clone(), world.topic.clone(), world.name.clone())
}

fn run(world: &World, store: &InMemory) -> Running {
    run_with(world, store, &Log::default())
}

/// Looks once a second as well.
fn run_with(world: &World, store: &InMemory, log: &Log) -> Running {
    let holes = holes(world, store);
    let consumer = world.consumer(log.handler()).with_holes(holes.clone());
    let connection = consumer.connection();
    let running = Running::start(consumer, Duration::from_secs(10));
    let observing = holes.observe(connection, Progress::new("holes"), running.shutdown.clone());
    tokio::spawn(observing);
    running
}

/// Runs a consumer until it has looked for the first time.
async fn begin(world: &World, store: &InMemory) {
    let running = run(world, store);
    store.kept(0).await;
    running.stop().await;
}

#[tokio::test]
async fn messages_that_were_purged_while_nobody_read_are_found_once_and_stay_known() {
    let (world, store) = (World::new().await, InMemory::default());
    let running = run(&world, &store);
    world.publish(["1", "2"]).await;
    world.settled(2).await;
    store.kept(2).await;
    running.stop().await;

    world.publish(["3", "4"]).await;
    world.stream().await.purge().await.expect("purged");
    world.publish(["5"]).await;
    for _ in 0..2 {
        let running = run(&world, &store);
        world.settled(5).await;
        // The consumer has gone along with the purge: what came before is doubted for a while.
        store.kept(5).await;
        running.stop().await;
        assert_eq!(store.ranges(), [(3, 4)]);
    }
    assert_eq!(store.position().expect("a position").found, 2);
}

#[tokio::test]
async fn of_several_that_look_at_once_one_finds_what_is_missing() {
    let (world, store) = (World::new().await, InMemory::default());
    begin(&world, &store).await;
    world.publish(["1", "2", "3"]).await;
    world.stream().await.delete_message(2).await.expect("gone");

    let looks = (0..8).map(|_| holes(&world, &store));
    let looks: Vec<_> = looks.collect();
    let looking = looks.iter().map(|it| it.look(&world.jetstream));
    for looked in futures::future::join_all(looking).await {
        looked.expect("a look");
    }
    assert_eq!(store.ranges(), [(2, 2)]);
    assert_eq!(store.position().expect("a position").found, 1);
    for holes in looks {
        holes.look(&world.jetstream).await.expect("a look");
        holes.check().expect_err("the hole is known to all");
    }
}

#[tokio::test]
async fn however_many_holes_there_are_the_position_is_bounded_and_covers_them() {
    let (world, store) = (World::new().await, InMemory::default());
    begin(&world, &store).await;
    world.publish(1..=300).await;
    let stream = world.stream().await;
    for sequence in (2..300).step_by(2) {
        stream.delete_message(sequence).await.expect("gone");
    }
    let holes = holes(&world, &store);
    for _ in 0..2 {
        holes.look(&world.jetstream).await.expect("a look");
        let ranges = store.ranges();
        assert_eq!(ranges.len(), 100);
        assert_eq!(ranges.last(), Some(&(200, 298)));
        assert_eq!(store.position().expect("a position").found, 149);
    }
}

/// Waits until all of the texts were read so many times.
async fn read(log: &Log, expected: &[(std::ops::RangeInclusive<u32>, usize)]) {
    let expected = expected.iter().cloned();
    let all = expected.flat_map(|(texts, times)| texts.map(move |text| (text, times)));
    let all = all.flat_map(|(text, times)| vec![text.to_string(); times]);
    let mut all: Vec<_> = all.collect();
    all.sort_unstable();
    eventually("the messages to be read", async || {
        (log.sorted() == all).then_some(())
    })
    .await;
}

/// Of a store that has the effects of ten messages.
async fn back_up_at_10(world: &World, store: &InMemory) -> Option<StoredPosition> {
    world.publish(1..=10).await;
    store.kept(10).await;
    store.backup()
}

/// As the store was after ten of twenty messages.
async fn backed_up(world: &World, store: &InMemory) -> Option<StoredPosition> {
    let backup = back_up_at_10(world, store).await;
    world.publish(11..=20).await;
    store.kept(20).await;
    backup
}

#[tokio::test]
async fn what_a_store_lacks_that_was_put_back_is_read_again() {
    let (world, store, log) = (World::new().await, InMemory::default(), Log::default());
    let running = run_with(&world, &store, &log);
    let backup = backed_up(&world, &store).await;

    store.restore(backup);
    read(&log, &[(1..=10, 1), (11..=20, 2)]).await;
    store.kept(20).await;
    running.stop().await;
}

#[tokio::test]
async fn what_a_store_lacks_that_was_put_back_while_nobody_worked_is_read_again() {
    let (world, store, log) = (World::new().await, InMemory::default(), Log::default());
    let running = run_with(&world, &store, &log);
    let backup = backed_up(&world, &store).await;
    running.stop().await;

    store.restore(backup);
    let running = run_with(&world, &store, &log);
    read(&log, &[(1..=10, 1), (11..=20, 2)]).await;
    running.stop().await;

    // An empty one.
    store.restore(None);
    let running = run_with(&world, &store, &log);
    read(&log, &[(1..=10, 2), (11..=20, 3)]).await;
    store.kept(20).await;
    running.stop().await;
}

/// As `mongorestore` does with the operations that came during the dump.
#[tokio::test]
async fn what_a_store_lacks_into_which_a_backup_is_written_step_by_step_is_read_again() {
    let (world, store, log) = (World::new().await, InMemory::default(), Log::default());
    let running = run_with(&world, &store, &log);
    let first = back_up_at_10(&world, &store).await;
    world.publish(11..=15).await;
    store.kept(15).await;
    let last = store.backup();
    world.publish(16..=20).await;
    store.kept(20).await;

    store.write_back(first);
    store.looked_at().await;
    store.write_back(last);
    read(&log, &[(1..=15, 1), (16..=20, 2)]).await;
    store.kept(20).await;
    running.stop().await;
}

#[tokio::test]
async fn a_store_that_is_older_than_the_first_message_misses_what_has_left_the_stream() {
    let (world, store, log) = (World::new().await, InMemory::default(), Log::default());
    let running = run_with(&world, &store, &log);
    let backup = backed_up(&world, &store).await;
    let stream = world.stream().await;
    stream.purge().sequence(16).await.expect("purged");

    store.restore(backup);
    read(&log, &[(1..=15, 1), (16..=20, 2)]).await;
    store.kept(20).await;
    assert_eq!(store.ranges(), [(11, 15)]);
    running.stop().await;
}

/// Where its messages stood, others stand now.
#[tokio::test]
async fn a_store_of_an_earlier_incarnation_lacks_what_came_in_the_place_of_its_messages() {
    let (world, store, log) = (World::new().await, InMemory::default(), Log::default());
    let running = run_with(&world, &store, &log);
    let backup = back_up_at_10(&world, &store).await;
    world.begin_incarnation(7, 4).await;
    world.follows("7", 10).await;
    store.kept(10).await;
    read(&log, &[(1..=4, 1), (5..=10, 2)]).await;

    store.restore(backup);
    read(&log, &[(1..=4, 1), (5..=10, 3)]).await;
    running.stop().await;
}

/// Otherwise what was found last would count for as long as nobody can look.
#[tokio::test]
async fn holes_that_can_not_be_looked_for_are_not_known_to_be_none() {
    let (world, store) = (World::new().await, InMemory::default());
    let holes = holes(&world, &store);
    assert!(holes.check().is_err(), "nobody has looked yet");
    let consumer = world
        .consumer(Log::default().handler())
        .with_holes(holes.clone());
    let connection = consumer.connection();
    let running = Running::start(consumer, Duration::from_secs(10));
    let observing =
        holes
            .clone()
            .observe(connection, Progress::new("holes"), running.shutdown.clone());
    tokio::spawn(observing);
    eventually("a look", async || holes.check().ok()).await;

    store.0.send_modify(|store| store.is_away = true);
    eventually("a check that fails", async || holes.check().err()).await;
    assert_eq!(holes.open(), None);

    store.0.send_modify(|store| store.is_away = false);
    eventually("a look again", async || holes.check().ok()).await;
    running.stop().await;
}
