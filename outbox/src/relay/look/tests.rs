use std::{future::pending, time::Duration};

use async_nats::jetstream::{self, stream::Config};
use service_runtime::{nats::stream::LedgerIdentity, progress::Progress};
use testkit::{nats, unique};
use tokio::time::timeout;

use super::while_claimed;
use crate::relay::{claim::Claim, failure::Failure, owned::Owned, stream_metadata::MetadataWriter};

fn identity(database: &str) -> LedgerIdentity {
    LedgerIdentity {
        ledger_id: "00000000-0000-7000-8000-000000000001".to_owned(),
        database: database.to_owned(),
    }
}

#[tokio::test]
async fn a_takeover_is_seen_while_postgres_does_not_answer() {
    let client = async_nats::connect(nats::shared_url()).await;
    let client = client.expect("NATS");
    let jetstream = jetstream::new(client.clone());
    let stream = unique("TAKEN");
    let config = Config {
        name: stream.clone(),
        subjects: vec![unique("taken")],
        ..Config::default()
    };
    jetstream.create_stream(config).await.expect("a stream");
    let nowhere = "postgres://nobody@localhost/none".parse().expect("a URL");
    let pool = postgres_pool::pool(&nowhere, 1, Duration::from_secs(1)).expect("a pool");
    let metadata = MetadataWriter::new(jetstream.clone(), stream.clone());
    let (mine, other) = (identity("1/1/1"), identity("2/1/1"));
    let owned = Owned {
        stream,
        epoch: 0,
        session: 0,
        identity: mine.database.clone(),
    };
    let claim = Claim {
        client: &client,
        jetstream: &jetstream,
        pool: &pool,
        owned: &owned,
        metadata: &metadata,
        progress: &Progress::new("relay"),
    };
    let entered = mine.clone();
    let named = metadata.change(|it| it.ledger = Some(entered)).await;
    named.expect("the stream's metadata");

    let asking = while_claimed(&claim, &mine, pending::<Result<(), Failure>>());
    let asking = timeout(Duration::from_secs(30), asking);
    let taking = metadata.change(|it| it.ledger = Some(other));
    let (asked, taken) = tokio::join!(asking, taking);
    taken.expect("the stream's metadata");
    let asked = asked.expect("an end, though there is no answer");
    assert!(matches!(asked, Err(Failure::Foreign(_))), "{asked:?}");
}
