//! Messages that leave the stream before they are read.

use event_consumer::{
    Holes,
    holes::{Position, PositionStore, StoredPosition},
};
use testkit::eventually;
use tokio::sync::watch;

use crate::support::{Log, Running, World};

/// Shared by the consumers of a test, as a database would be.
#[derive(Debug, Clone, Default)]
struct InMemory(watch::Sender<Option<StoredPosition>>);

impl PositionStore for InMemory {
    async fn load(&self) -> anyhow::Result<Option<StoredPosition>> {
        Ok(self.0.borrow().clone())
    }

    async fn save(&self, position: &Position, expected: Option<i64>) -> anyhow::Result<bool> {
        Ok(self.0.send_if_modified(|stored| {
            if stored.as_ref().map(|it| it.revision) != expected {
                return false;
            }
            *stored = Some(StoredPosition {
                position: position.clone(),
                revision: expected.unwrap_or_default() + 1,
            });
            true
        }))
    }
}

impl InMemory {
    fn position(&self) -> Option<Position> {
        Some(self.0.borrow().as_ref()?.position.clone())
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
    let consumer = world.consumer(Log::default().handler());
    let consumer = consumer.with_holes(holes(world, store));
    Running::start(consumer, std::time::Duration::from_secs(10))
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
    running.stop().await;
    store.kept(2).await;

    world.publish(["3", "4"]).await;
    world.stream().await.purge().await.expect("purged");
    world.publish(["5"]).await;
    for _ in 0..2 {
        let running = run(&world, &store);
        world.settled(5).await;
        running.stop().await;
        store.kept(5).await;
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
