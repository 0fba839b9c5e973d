//! Which traces are sampled.

use opentelemetry::{
    Context, KeyValue,
    trace::{Link, SpanKind, TraceId, TraceState},
};
use opentelemetry_sdk::trace::{Sampler, SamplingDecision, SamplingResult, ShouldSample};

/// The names are those of the OpenTelemetry specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum TracesSampler {
    AlwaysOn,
    AlwaysOff,
    /// A share of all traces, whatever the caller has decided
    #[value(name = "traceidratio")]
    TraceIdRatio,
    /// What the caller has decided, otherwise all
    #[value(name = "parentbased_always_on")]
    ParentBasedAlwaysOn,
    /// What the caller has decided, otherwise none
    #[value(name = "parentbased_always_off")]
    ParentBasedAlwaysOff,
    /// What the caller has decided, otherwise a share
    #[value(name = "parentbased_traceidratio")]
    ParentBasedTraceIdRatio,
}

impl TracesSampler {
    pub(super) fn build(self, ratio: f64) -> Sampler {
        let parent_based = |root| Sampler::ParentBased(Box::new(LinkBased { root }));
        match self {
            Self::AlwaysOn => Sampler::AlwaysOn,
            Self::AlwaysOff => Sampler::AlwaysOff,
            Self::TraceIdRatio => Sampler::TraceIdRatioBased(ratio),
            Self::ParentBasedAlwaysOn => parent_based(Sampler::AlwaysOn),
            Self::ParentBasedAlwaysOff => parent_based(Sampler::AlwaysOff),
            Self::ParentBasedTraceIdRatio => parent_based(Sampler::TraceIdRatioBased(ratio)),
        }
    }
}

/// A span without a parent that is linked to sampled traces is sampled too: it stands for what
/// happened to all of them at once.
#[derive(Debug, Clone)]
struct LinkBased {
    root: Sampler,
}

impl ShouldSample for LinkBased {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        if links.iter().any(|link| link.span_context.is_sampled()) {
            return SamplingResult {
                decision: SamplingDecision::RecordAndSample,
                attributes: Vec::new(),
                trace_state: TraceState::NONE,
            };
        }
        (self.root).should_sample(parent, trace_id, name, kind, attributes, links)
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{Link, SpanKind, TraceId};
    use opentelemetry_sdk::trace::{SamplingDecision, ShouldSample};

    use super::TracesSampler;
    use crate::telemetry::trace_context::Traceparent;

    const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

    fn is_sampled(sampler: TracesSampler, parent: Option<&str>, link: Option<&str>) -> bool {
        let parse = |text| Traceparent::parse(text).expect("a traceparent");
        let parent = parent.map(|text| parse(text).context(None));
        let links = link.map(|text| Link::with_context(parse(text).span_context(None)));
        let links = Vec::from_iter(links);
        let parent = parent.unwrap_or_default();
        let id = TraceId::from(1);
        let result = (sampler.build(0.0)).should_sample(
            Some(&parent),
            id,
            "",
            &SpanKind::Client,
            &[],
            &links,
        );
        result.decision == SamplingDecision::RecordAndSample
    }

    #[test]
    fn the_caller_decides_and_without_one_the_links_do() {
        let sampler = TracesSampler::ParentBasedTraceIdRatio;
        assert!(is_sampled(sampler, Some(SAMPLED), None));
        assert!(!is_sampled(sampler, Some(UNSAMPLED), None));
        assert!(!is_sampled(sampler, None, None));
        assert!(is_sampled(sampler, None, Some(SAMPLED)));
        assert!(!is_sampled(sampler, None, Some(UNSAMPLED)));
    }

    #[test]
    fn a_sampler_that_is_not_parent_based_asks_nobody() {
        assert!(!is_sampled(TracesSampler::AlwaysOff, Some(SAMPLED), None));
        assert!(is_sampled(TracesSampler::AlwaysOn, Some(UNSAMPLED), None));
    }
}
