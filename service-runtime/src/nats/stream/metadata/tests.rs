use async_nats::jetstream::stream::Info;
use serde_json::json;

use super::{Incarnation, LedgerIdentity, Refill, StreamMetadata};

fn stream(created: &str) -> Info {
    let info = json!({
        "config": {
            "name": "S", "retention": "limits", "storage": "file", "discard": "new",
            "num_replicas": 1, "max_consumers": -1, "max_msgs": -1, "max_bytes": -1,
            "max_age": 0, "max_msgs_per_subject": -1, "max_msg_size": -1, "no_ack": false,
            "duplicate_window": 0, "sealed": false, "deny_delete": false, "deny_purge": false,
            "allow_rollup_hdrs": false, "allow_direct": false, "mirror_direct": false,
            "metadata": { "an-operator's": "own" },
        },
        "created": created,
        "state": {
            "messages": 0, "bytes": 0, "first_seq": 0, "first_ts": created, "last_seq": 0,
            "last_ts": created, "consumer_count": 0,
        },
    });
    serde_json::from_value(info).expect("a stream")
}

fn metadata() -> StreamMetadata {
    let mut metadata = StreamMetadata {
        complete_from: Some(7),
        ledger: Some(LedgerIdentity {
            ledger_id: "a-uuid".to_owned(),
            database: "123/4/567".to_owned(),
        }),
        ..StreamMetadata::default()
    };
    for (number, sequence) in [(1, 40), (2, 10)] {
        (metadata.incarnations).begin(Incarnation { number, sequence });
    }
    for (missing, through) in [(3..=5, 90), (8..=8, 91)] {
        metadata.refilled.add(Refill { missing, through });
    }
    metadata
}

#[test]
fn what_is_written_is_read_and_written_once() {
    let mut info = stream("2026-01-02T03:04:05.678Z");
    assert_eq!(StreamMetadata::of(&info), StreamMetadata::default());
    assert_eq!(StreamMetadata::default().config(&info), None);

    let config = metadata().config(&info).expect("something new");
    for (key, value) in [
        ("complete-from", "7"),
        ("ledger", "a-uuid 123/4/567"),
        ("incarnation", "2 10,1 40"),
        ("refilled", "8-8@91,3-5@90"),
    ] {
        let written = config.metadata[key].rsplit_once(' ');
        assert_eq!(written.map(|(value, _)| value), Some(value));
    }
    info.config = config;
    assert_eq!(StreamMetadata::of(&info), metadata());
    assert_eq!(metadata().config(&info), None);

    let config = StreamMetadata::default().config(&info);
    let left = config.expect("something new").metadata;
    assert_eq!(left.into_keys().collect::<Vec<_>>(), ["an-operator's"]);
}

#[test]
fn it_counts_for_the_stream_that_it_was_written_for_only() {
    let info = stream("2026-01-02T03:04:05.678Z");
    let mut other = stream("2026-01-02T03:04:06.678Z");
    other.config = metadata().config(&info).expect("something new");
    assert_eq!(StreamMetadata::of(&other), StreamMetadata::default());
}
