use testkit::nats::Cluster;

use crate::support::{World, assert_in_order};

#[tokio::test]
async fn killing_the_leader_of_a_replicated_stream_loses_nothing_and_needs_no_restart() {
    let mut cluster = Cluster::start().await;
    let world = World::with_nats(cluster.url()).await;
    let mut api = world.serve(&["--stream-replicas", "3"]).await;
    let users = [api.create().await, api.create().await, api.create().await];
    world.published(3).await;
    let info = world.stream().await.cached_info().clone();
    assert_eq!(info.config.num_replicas, 3);
    let leader = info
        .cluster
        .and_then(|cluster| cluster.leader)
        .expect("a leader");

    for round in 0..300_usize {
        if round == 100 {
            let index = (0..3).find(|index| Cluster::name(*index) == leader);
            cluster.servers[index.expect("one of ours")].kill();
        }
        api.rename(users[round % 3], &format!("Ada {round}")).await;
    }
    assert_in_order(&world.published(303).await);
    world.drained().await;
    api.ready().await;
    assert!(api.service.process.is_running());
}
