//! Which spans are made, and where they go: the standard variables of OpenTelemetry.

use std::{collections::HashMap, env, num::NonZeroU32, path::PathBuf, time::Duration};

use anyhow::{Context as _, ensure};
use axum::http::{HeaderName, HeaderValue};
use clap::Args;
use opentelemetry::{KeyValue, global};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{SdkTracerProvider, SpanExporter as _},
};
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};

use super::{
    collector,
    export::{self, MAX_LINKS},
    sampler::TracesSampler,
    spans,
};
use crate::tasks::Tasks;

/// Of one request to the collector, and of all attempts at one batch.
const REQUEST_DEADLINE: Duration = Duration::from_secs(5);
const TRACES_PATH: &str = "/v1/traces";
const DEFAULT_SAMPLER: TracesSampler = TracesSampler::ParentBasedTraceIdRatio;
const DEFAULT_RATIO: f64 = 0.01;
const DEFAULT_CALLER_LIMIT: NonZeroU32 = NonZeroU32::new(100).expect("a number above 0");

const MAX_CALLER_LIMIT: NonZeroU32 = NonZeroU32::new(1_000_000).expect("a number above 0");

/// Traces. Nothing is made or sent unless a collector is named.
#[derive(Debug, Clone, Args)]
pub struct TraceSettings {
    /// Collector that takes spans by OTLP over HTTP (protobuf): http://host:4318, or https://host:4318
    /// over TLS. No spans are made unless set
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// PEM file with the authorities that vouch for a collector with TLS; the system's unless set
    #[arg(long, env = "OTEL_EXPORTER_OTLP_CERTIFICATE", value_name = "FILE")]
    pub otlp_certificate: Option<PathBuf>,
    /// Headers for the collector, such as a token: NAME=VALUE, percent-encoded, separated by commas;
    /// best set by the environment
    #[arg(
        long,
        env = "OTEL_EXPORTER_OTLP_HEADERS",
        hide_env_values = true,
        value_name = "HEADERS"
    )]
    pub otlp_headers: Option<SecretString>,
    /// `service.name` of the spans; by default the name of the program
    #[arg(long, env = "OTEL_SERVICE_NAME", value_name = "NAME")]
    pub otel_service_name: Option<String>,
    /// Which traces are sampled
    #[arg(
        long,
        env = "OTEL_TRACES_SAMPLER",
        value_enum,
        default_value_t = DEFAULT_SAMPLER
    )]
    pub traces_sampler: TracesSampler,
    /// The share of traces that a sampler with a ratio takes (0 to 1)
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG", value_name = "RATIO", default_value_t = DEFAULT_RATIO, value_parser = ratio)]
    pub traces_sampler_arg: f64,
    /// Traces a second that are sampled because of what callers send, in bursts of at most as many, in
    /// each process; with `always_on` all are
    #[arg(long, env = "TRACES_CALLER_LIMIT", value_name = "TRACES", default_value_t = DEFAULT_CALLER_LIMIT, value_parser = caller_limit)]
    pub traces_caller_limit: NonZeroU32,
}

impl Default for TraceSettings {
    fn default() -> Self {
        Self {
            otlp_endpoint: None,
            otlp_certificate: None,
            otlp_headers: None,
            otel_service_name: None,
            traces_sampler: DEFAULT_SAMPLER,
            traces_sampler_arg: DEFAULT_RATIO,
            traces_caller_limit: DEFAULT_CALLER_LIMIT,
        }
    }
}

impl TraceSettings {
    /// Makes spans from now on, and sends them while `tasks` run. Those of the last requests are sent
    /// after all other tasks have ended, for at most `flush_deadline`.
    pub(crate) fn start(&self, tasks: &mut Tasks, flush_deadline: Duration) -> anyhow::Result<()> {
        let endpoint = self.otlp_endpoint.as_deref().unwrap_or_default();
        if endpoint.is_empty() {
            return Ok(());
        }
        let mut exporter = self.exporter(endpoint)?;
        let resource = self.resource();
        exporter.set_resource(&resource);
        let (queue, export) = export::queue(exporter);
        let ratio = self.traces_sampler_arg;
        let sampler = self.traces_sampler.build(ratio, self.traces_caller_limit);
        let provider = SdkTracerProvider::builder()
            .with_sampler(sampler)
            .with_resource(resource)
            .with_max_links_per_span(MAX_LINKS)
            .with_span_processor(queue)
            .build();
        global::set_tracer_provider(provider);
        spans::turn_on();
        tracing::info!(endpoint, sampler = ?self.traces_sampler, ratio, "sending traces");
        tasks.spawn_last("span export", |end| export.run(end, flush_deadline));
        Ok(())
    }

    fn exporter(&self, endpoint: &str) -> anyhow::Result<SpanExporter> {
        let has_host = |host: &str| !host.is_empty() && !host.contains('@');
        let host = (endpoint.strip_prefix("http://")).or_else(|| endpoint.strip_prefix("https://"));
        ensure!(
            host.is_some_and(has_host),
            "OTEL_EXPORTER_OTLP_ENDPOINT must begin with http:// or https:// and name a host, without a \
             password"
        );
        let endpoint = format!("{}{TRACES_PATH}", endpoint.trim_end_matches('/'));
        let ca_file = (self.otlp_certificate.as_deref()).filter(|it| !it.as_os_str().is_empty());
        let client = collector::client(&endpoint, ca_file, REQUEST_DEADLINE)
            .context("OTEL_EXPORTER_OTLP_CERTIFICATE")?;
        let headers = (self.otlp_headers.as_ref()).map_or_else(|| Ok(HashMap::new()), headers)?;
        SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint)
            .with_headers(headers)
            .with_timeout(REQUEST_DEADLINE)
            .build()
            .context("OTEL_EXPORTER_OTLP_ENDPOINT")
    }

    fn resource(&self) -> Resource {
        let name = self.otel_service_name.clone().filter(|it| !it.is_empty());
        Resource::builder()
            .with_service_name(name.unwrap_or_else(program))
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build()
    }
}

fn program() -> String {
    let path = env::current_exe().ok();
    let name = path.as_deref().and_then(|it| it.file_name()?.to_str());
    name.unwrap_or("unknown_service").to_owned()
}

/// Errors do not show what was set.
fn headers(text: &SecretString) -> anyhow::Result<HashMap<String, String>> {
    let pairs = text
        .expose_secret()
        .split(',')
        .filter(|it| !it.trim().is_empty());
    let parse = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        HeaderValue::from_str(&value).ok()?;
        let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
        Some((name.to_string(), value.into_owned()))
    };
    let parsed: Option<_> = pairs.map(parse).collect();
    parsed.context("OTEL_EXPORTER_OTLP_HEADERS must be NAME=VALUE, separated by commas")
}

fn ratio(text: &str) -> Result<f64, &'static str> {
    match text.parse() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
        _ => Err("must be from 0 to 1"),
    }
}

fn caller_limit(text: &str) -> Result<NonZeroU32, &'static str> {
    match text.parse() {
        Ok(limit) if limit <= MAX_CALLER_LIMIT => Ok(limit),
        _ => Err("must be from 1 to 1000000"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use opentelemetry_sdk::trace::SpanExporter as _;
    use testkit::{Authority, Collector};

    use super::{TraceSettings, headers};

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        traces: TraceSettings,
    }

    #[test]
    fn headers_are_percent_encoded_pairs_and_an_error_shows_none_of_them() {
        let parsed = headers(&"authorization=Bearer%20abc, x-tenant=7".into()).expect("headers");
        assert_eq!(parsed["authorization"], "Bearer abc");
        assert_eq!(parsed["x-tenant"], "7");
        for bad in ["hunter2", "a b=hunter2", "a=hunter2%0a"] {
            let error = headers(&bad.into()).expect_err(bad);
            assert!(!format!("{error:#}").contains("hunter2"), "{error:#}");
        }
    }

    #[test]
    fn a_ratio_is_a_share() {
        let parse = |value| Cli::try_parse_from(["serve", "--traces-sampler-arg", value]);
        let parsed = parse("0.5").expect("a ratio");
        assert!((parsed.traces.traces_sampler_arg - 0.5).abs() < f64::EPSILON);
        for bad in ["1.1", "NaN", "all", ""] {
            parse(bad).expect_err(bad);
        }
    }

    #[test]
    fn callers_are_limited_to_a_rate() {
        let parse = |value| Cli::try_parse_from(["serve", "--traces-caller-limit", value]);
        let parsed = parse("1000000").expect("a rate");
        assert_eq!(parsed.traces.traces_caller_limit.get(), 1_000_000);
        for bad in ["0", "1000001", "-1", "all", ""] {
            parse(bad).expect_err(bad);
        }
    }

    #[tokio::test]
    async fn a_collector_without_a_host_or_with_a_password_is_refused() {
        let settings = |endpoint: &str| {
            let cli = Cli::parse_from(["serve", "--otlp-endpoint", endpoint]);
            cli.traces.exporter(endpoint).map(drop)
        };
        settings("http://localhost:4318/").expect("a collector");
        for bad in ["http://", "https://", "localhost:4318", "http://a:b@c"] {
            settings(bad).expect_err(bad);
        }
    }

    #[tokio::test]
    async fn a_collector_with_tls_gets_spans_if_its_authority_is_trusted() {
        let authority = Authority::new();
        let collector = Collector::start_tls(&authority).await;
        let export = async |trusted: &Authority| {
            let file = trusted.path("ca.pem");
            let file = file.to_str().expect("a path in UTF-8");
            let cli = Cli::parse_from(["serve", "--otlp-certificate", file]);
            let exporter = cli.traces.exporter(collector.url()).expect("a collector");
            exporter.export(vec![]).await
        };
        export(&authority).await.expect("the collector takes them");
        assert_eq!(collector.requests().len(), 1);
        let refused = export(&Authority::new()).await;
        refused.expect_err("nobody vouches for the collector");
        assert_eq!(collector.requests().len(), 1);
    }

    #[test]
    fn a_file_without_authorities_is_refused() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let path = file.path().to_str().expect("a path in UTF-8");
        let cli = Cli::parse_from(["serve", "--otlp-certificate", path]);
        let error = cli.traces.exporter("https://localhost:4318");
        let error = error.expect_err("nobody is trusted");
        let text = format!("{error:#}");
        assert!(text.contains("OTEL_EXPORTER_OTLP_CERTIFICATE"), "{text}");
        assert!(text.contains("no certificate"), "{text}");
    }
}
