//! How the relay works, by flag or environment: the same for every program that runs one.

use std::{ops::RangeInclusive, time::Duration};

use clap::Args;
use service_runtime::{
    nats::{NatsSettings, stream::StreamSettings},
    settings::{duration, duration_within},
};

use crate::{partitions::Retention, route::Route};

/// How long something may be kept.
const RETENTION: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(365 * 24);

/// What a relay can be told, by flag or environment.
#[derive(Debug, Clone, Args)]
pub struct RelayConfig {
    #[command(flatten)]
    pub nats: NatsSettings,
    /// Where the events of an aggregate type go, as TYPE=STREAM:SUBJECT; may be given several times,
    /// in the environment separated by commas. Events without a route are parked
    #[arg(
        long = "route",
        env = "RELAY_ROUTES",
        value_name = "ROUTE",
        value_delimiter = ','
    )]
    pub routes: Vec<Route>,
    /// `ce-source` of the events; by default a slash and the name of the program
    #[arg(long, env = "EVENT_SOURCE", value_parser = source)]
    pub event_source: Option<String>,
    /// Copies of each stream in a NATS cluster
    #[arg(long, env = "STREAM_REPLICAS", default_value_t = 1, value_parser = replicas)]
    pub stream_replicas: usize,
    /// How long an event stays in its stream; readers that were away for longer need a republish
    #[arg(long, env = "STREAM_MAX_AGE", default_value = "7days", value_parser = stream_max_age)]
    pub stream_max_age: Duration,
    /// Longest time between two looks into the outbox; wake-ups make it much shorter
    #[arg(long, env = "RELAY_POLL_INTERVAL", default_value = "500ms", value_parser = duration(Duration::from_millis(10)..=Duration::from_mins(1)))]
    pub poll_interval: Duration,
    /// Events published but not yet acknowledged, at most
    #[arg(long, env = "RELAY_MAX_IN_FLIGHT", default_value_t = 1024, value_parser = clap::value_parser!(u16).range(1..))]
    pub max_in_flight: u16,
    /// How long events stay in the outbox after they were written, to be published again if the stream
    /// is lost; events that are not published yet stay in any case
    #[arg(long, env = "OUTBOX_RETENTION", default_value = "1day", value_parser = duration(RETENTION))]
    pub outbox_retention: Duration,
    /// Events in one partition of the outbox; old ones are dropped by the partition
    #[arg(long, env = "OUTBOX_PARTITION_EVENTS", default_value_t = 1_000_000, value_parser = clap::value_parser!(i64).range(100..=1_000_000_000))]
    pub outbox_partition_events: i64,
}

impl RelayConfig {
    pub(crate) fn retention(&self) -> Retention {
        Retention {
            keep: self.outbox_retention,
            keep_checkpoints: self.outbox_retention.max(self.stream_max_age),
            partition_events: self.outbox_partition_events,
        }
    }

    pub(crate) fn stream_settings(&self) -> StreamSettings {
        StreamSettings {
            replicas: self.stream_replicas,
            max_age: self.stream_max_age,
            ..StreamSettings::default()
        }
    }
}

/// A header can carry it.
fn source(text: &str) -> Result<String, &'static str> {
    let is_allowed = |byte: u8| byte.is_ascii_graphic();
    if !(1..=200).contains(&text.len()) || !text.bytes().all(is_allowed) {
        return Err("must be a URI reference of 1 to 200 visible ASCII characters");
    }
    Ok(text.to_owned())
}

fn replicas(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(replicas @ (1 | 3 | 5)) => Ok(replicas),
        _ => Err("must be 1, 3 or 5".to_owned()),
    }
}

/// `JetStream` refuses a stream that forgets an event sooner than its id.
fn stream_max_age(text: &str) -> Result<Duration, String> {
    let max_age = duration_within(text, &RETENTION)?;
    let window = StreamSettings::default().duplicate_window;
    if max_age < window {
        return Err(format!(
            "STREAM_MAX_AGE must not be shorter than the duplicate window of the stream ({})",
            humantime::format_duration(window)
        ));
    }
    Ok(max_age)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::RelayConfig;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        _relay: RelayConfig,
    }

    #[test]
    fn a_stream_that_forgets_events_sooner_than_their_ids_is_refused_at_the_start() {
        let refused = Cli::try_parse_from(["relay", "--stream-max-age", "14m"]);
        let message = refused.expect_err("an error").to_string();
        assert!(message.contains("STREAM_MAX_AGE"), "{message}");
        assert!(
            message.contains("duplicate window of the stream (15m)"),
            "{message}"
        );
        let accepted = Cli::try_parse_from(["relay", "--stream-max-age", "15m"]);
        assert!(accepted.is_ok());
    }
}
