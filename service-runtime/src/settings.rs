//! Settings that several programs have, and parsers for values of settings.

use std::{net::SocketAddr, ops::RangeInclusive, time::Duration};

use clap::Args;

use crate::progress::StallTimeout;

/// Where an API listens: on `PORT` of the loopback address unless set.
#[derive(Debug, Clone, Args)]
pub struct ListenSettings<const PORT: u16> {
    /// Address that the API listens on; port 0 takes a free one
    #[arg(long, env = "LISTEN_ADDR", default_value_t = SocketAddr::from(([127, 0, 0, 1], PORT)))]
    pub listen_addr: SocketAddr,
}

/// How a process ends, and what it tells of what it does.
#[derive(Debug, Clone, Args)]
pub struct ProcessSettings {
    /// Longest time to finish what is in hand after SIGTERM or Ctrl-C (1s to 5min)
    #[arg(long, env = "DRAIN_TIMEOUT", default_value = "10s", value_parser = duration(Duration::from_secs(1)..=Duration::from_mins(5)))]
    pub drain_timeout: Duration,
    /// The process ends with an error when a task has not even tried to do its work for this long
    /// (90s to 24h), or never with `off`
    #[arg(long, env = "STALL_TIMEOUT", default_value = "2min")]
    pub stall_timeout: StallTimeout,
    #[cfg(feature = "http")]
    #[command(flatten)]
    pub traces: crate::telemetry::TraceSettings,
}

#[cfg(feature = "http")]
impl ProcessSettings {
    /// The longest time to send the last spans.
    const MAX_FLUSH_TIME: Duration = Duration::from_secs(2);

    /// Makes spans from now on, if a collector is set, and sends them while `tasks` run.
    ///
    /// # Errors
    /// If a setting is not valid.
    pub fn start_traces(&self, tasks: &mut crate::tasks::Tasks) -> anyhow::Result<()> {
        let flush_deadline = (self.drain_timeout / 4).min(Self::MAX_FLUSH_TIME);
        self.traces.start(tasks, flush_deadline)
    }
}

/// Parses a duration such as `10s` or `1day`, for `#[arg(value_parser = duration(…))]`.
pub fn duration(
    bounds: RangeInclusive<Duration>,
) -> impl Fn(&str) -> Result<Duration, String> + Clone + Send + Sync + 'static {
    move |text| duration_within(text, &bounds)
}

/// # Errors
/// If `text` is no duration, or one that is out of bounds.
pub fn duration_within(text: &str, bounds: &RangeInclusive<Duration>) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if !bounds.contains(&duration) {
        return Err(format!(
            "must be from {} to {}",
            humantime::format_duration(*bounds.start()),
            humantime::format_duration(*bounds.end())
        ));
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{Duration, ListenSettings, ProcessSettings, duration};

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        listen: ListenSettings<8080>,
        #[command(flatten)]
        process: ProcessSettings,
    }

    #[test]
    fn settings_have_defaults_and_bounds() {
        let parse = |arguments: &[&str]| Cli::try_parse_from([&["serve"], arguments].concat());
        let settings = parse(&[]).expect("defaults");
        assert_eq!(settings.listen.listen_addr.to_string(), "127.0.0.1:8080");
        assert_eq!(settings.process.drain_timeout, Duration::from_secs(10));
        let error = parse(&["--drain-timeout", "6min"]).expect_err("out of bounds");
        assert!(
            error.to_string().contains("must be from 1s to 5m"),
            "{error}"
        );
    }

    #[test]
    fn a_duration_has_a_unit_and_is_within_its_bounds() {
        let parse = duration(Duration::from_secs(1)..=Duration::from_hours(1));
        assert_eq!(parse("1h"), Ok(Duration::from_hours(1)));
        assert_eq!(parse("1min 30s"), Ok(Duration::from_secs(90)));
        for bad in ["999ms", "2h", "10", "", "-1s", "soon"] {
            parse(bad).expect_err(bad);
        }
    }
}
