//! The recorder: one in a process, which keeps what all handles report.

use std::{sync::OnceLock, time::Duration};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;
use tokio::{
    task::{self, JoinError},
    time,
};

use super::{
    Collection, Description, Kind, MetricsSettings,
    own::{BUILD_INFO, METRICS},
    scrape,
};

/// How often what histograms were given is added up. In between it takes 16 bytes each.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);

static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// Collects metrics from now on, unless the settings say no: the first thing that a program that
/// serves does, before anything gets a handle. `lists` are those of the crates that it is made of,
/// beside this one. Whatever is called later in the same process changes nothing.
///
/// # Panics
/// If another recorder was installed past this one.
pub fn install(
    settings: &MetricsSettings,
    service: &'static str,
    version: &'static str,
    lists: &[&[Description]],
) {
    if settings.metrics == Collection::Off {
        return;
    }
    RECORDER.get_or_init(|| {
        let descriptions = [METRICS].iter().chain(lists).copied().flatten();
        let recorder = with_buckets(descriptions.clone()).build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).expect("this is the only place that installs one");
        descriptions.for_each(describe);
        BUILD_INFO.with([service, version]).set(1);
        scrape::installed();
        let process = Collector::default();
        scrape::on_scrape(move || process.collect());
        handle
    });
}

fn with_buckets<'a>(descriptions: impl Iterator<Item = &'a Description>) -> PrometheusBuilder {
    let histograms = descriptions.filter(|it| it.kind == Kind::Histogram);
    histograms.fold(PrometheusBuilder::new(), |builder, it| {
        let name = Matcher::Full(it.name.to_owned());
        let builder = builder.set_buckets_for_metric(name, it.buckets);
        builder.expect("declared histograms have buckets")
    })
}

fn describe(it: &Description) {
    metrics::with_recorder(|recorder| match it.kind {
        Kind::Counter => recorder.describe_counter(it.name.into(), None, it.help.into()),
        Kind::Gauge => recorder.describe_gauge(it.name.into(), None, it.help.into()),
        Kind::Histogram => recorder.describe_histogram(it.name.into(), None, it.help.into()),
    });
}

/// Everything as Prometheus reads it; `None` unless metrics are collected.
pub(crate) async fn render() -> Option<Result<String, JoinError>> {
    let recorder = RECORDER.get()?;
    let rendering = task::spawn_blocking(|| {
        scrape::observe();
        recorder.render()
    });
    Some(rendering.await)
}

pub(crate) fn is_installed() -> bool {
    RECORDER.get().is_some()
}

/// Keeps the memory that histograms need small.
pub(crate) async fn maintain() {
    let Some(recorder) = RECORDER.get() else {
        return;
    };
    loop {
        time::sleep(UPKEEP_INTERVAL).await;
        // With a million values that is not done in a moment.
        if let Err(error) = task::spawn_blocking(|| recorder.run_upkeep()).await {
            tracing::error!(%error, "the metrics could not be added up");
        }
    }
}
