//! `outbox-relay status`: for people and, by its exit code, for scripts.

use std::time::Duration;

use chrono::{DateTime, Utc};
use outbox::{
    inspect::{MAX_COUNTED, counted},
    status::{self, RelayStatus, StreamStatus},
};
use postgres_pool::Pool;

/// Prints what there is; whether all is well. Events may wait for `max_age`.
pub(crate) async fn show(pool: &Pool, max_age: Duration) -> anyhow::Result<bool> {
    let relay = status::relay(pool).await?;
    let streams = status::streams(pool, MAX_COUNTED + 1).await?;
    let now = status::now(pool).await?;
    println!("{}", describe_relay(&relay));
    println!("{} parked", counted(relay.parked));
    let mut is_well = relay.is_active && relay.parked == 0;
    for stream in &streams {
        let age = age(stream, now);
        println!("{}", describe_stream(stream, age));
        is_well &= stream.is_configured && age.is_none_or(|age| age <= max_age);
        is_well &= stream.unreconciled_since.is_none() && stream.orphans == 0;
    }
    Ok(is_well)
}

fn describe_relay(relay: &RelayStatus) -> String {
    let owner = relay.owner.as_deref().unwrap_or("unknown");
    match relay.is_active {
        true => format!("active relay: {owner}, epoch {}", relay.epoch),
        false if relay.epoch == 0 => "no relay is active, and none ever was".to_owned(),
        false => format!(
            "no relay is active; the last was {owner}, epoch {}",
            relay.epoch
        ),
    }
}

fn describe_stream(stream: &StreamStatus, age: Option<Duration>) -> String {
    let types = match &stream.aggregate_types {
        Some(types) => types.join(", "),
        None => "all other aggregate types".to_owned(),
    };
    let pending = counted(stream.pending);
    let oldest = age.map_or_else(String::new, |age| {
        format!(", the oldest for {}", humantime::format_duration(age))
    });
    let unconfigured = match stream.is_configured {
        true => "",
        false => {
            "; no longer configured; its cursor keeps old events from being dropped: add a route, or \
             `forget` it"
        }
    };
    let orphans = match stream.orphans {
        0 => String::new(),
        count => format!("; {count} orphans not restated: see `orphans`"),
    };
    let unreconciled = match stream.unreconciled_since {
        None => String::new(),
        Some(since) => format!(
            "; unreconciled since {since}: consumers may have events that the database has lost; \
             compare their copies (`notification-service verify --repair`), then run `reconciled`"
        ),
    };
    format!(
        "stream {} ({types}): {pending} pending{oldest}; last sequence {}{unconfigured}{orphans}\
         {unreconciled}",
        stream.stream, stream.stream_sequence
    )
}

/// In whole seconds.
fn age(stream: &StreamStatus, now: DateTime<Utc>) -> Option<Duration> {
    let age = (now - stream.oldest_pending_at?).to_std();
    Some(Duration::from_secs(age.unwrap_or_default().as_secs()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use outbox::status::StreamStatus;

    use super::describe_stream;

    #[test]
    fn a_stream_is_described_in_one_line() {
        let mut stream = StreamStatus {
            stream: "ORDERS".to_owned(),
            aggregate_types: Some(vec!["order".to_owned(), "cart".to_owned()]),
            pending: 3,
            oldest_pending_at: None,
            stream_sequence: 17,
            open_gaps: 0,
            is_configured: true,
            unreconciled_since: None,
            orphans: 0,
        };
        assert_eq!(
            describe_stream(&stream, Some(Duration::from_secs(90))),
            "stream ORDERS (order, cart): 3 pending, the oldest for 1m 30s; last sequence 17"
        );
        stream.is_configured = false;
        stream.pending = 100_001;
        stream.orphans = 2;
        stream.unreconciled_since = Some(chrono::DateTime::UNIX_EPOCH);
        let line = describe_stream(&stream, None);
        assert!(line.contains("more than 100000 pending"), "{line}");
        assert!(line.contains("no longer configured"), "{line}");
        assert!(line.contains("2 orphans not restated"), "{line}");
        assert!(line.contains("unreconciled since 1970"), "{line}");
    }
}
