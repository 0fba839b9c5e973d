//! Which traces are sampled.

use std::{num::NonZeroU32, sync::Arc};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use opentelemetry::{
    Context, KeyValue,
    trace::{Link, SpanKind, TraceContextExt, TraceId, TraceState},
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
    /// `caller_limit` traces a second are sampled because of what a caller has sent.
    pub(super) fn build(self, ratio: f64, caller_limit: NonZeroU32) -> Box<dyn ShouldSample> {
        let limited = |sampler| {
            let limit = Arc::new(RateLimiter::direct(Quota::per_second(caller_limit)));
            Box::new(CallerLimited { sampler, limit }) as Box<dyn ShouldSample>
        };
        let parent_based = |root| limited(Sampler::ParentBased(Box::new(LinkBased { root })));
        match self {
            Self::AlwaysOn => Box::new(Sampler::AlwaysOn),
            Self::AlwaysOff => Box::new(Sampler::AlwaysOff),
            Self::TraceIdRatio => limited(Sampler::TraceIdRatioBased(ratio)),
            Self::ParentBasedAlwaysOn => parent_based(Sampler::AlwaysOn),
            Self::ParentBasedAlwaysOff => parent_based(Sampler::AlwaysOff),
            Self::ParentBasedTraceIdRatio => parent_based(Sampler::TraceIdRatioBased(ratio)),
        }
    }
}

/// Whoever sends a trace context chooses its flag, and an id that suits a ratio as well. Requests that
/// come with one are sampled up to a rate. What is done for them afterwards follows their spans.
#[derive(Debug, Clone)]
struct CallerLimited {
    sampler: Sampler,
    limit: Arc<DefaultDirectRateLimiter>,
}

impl ShouldSample for CallerLimited {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let mut result =
            (self.sampler).should_sample(parent, trace_id, name, kind, attributes, links);
        let has_caller = *kind == SpanKind::Server
            && parent.is_some_and(|parent| parent.span().span_context().is_remote());
        if has_caller
            && result.decision == SamplingDecision::RecordAndSample
            && self.limit.check().is_err()
        {
            result.decision = SamplingDecision::Drop;
        }
        result
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
    use std::num::NonZeroU32;

    use opentelemetry::trace::{Link, SpanKind, TraceId};
    use opentelemetry_sdk::trace::{SamplingDecision, ShouldSample};

    use super::TracesSampler;
    use crate::telemetry::trace_context::Traceparent;

    const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

    fn is_sampled(sampler: TracesSampler, parent: Option<&str>, link: Option<&str>) -> bool {
        let sampler = sampler.build(0.0, NonZeroU32::MIN);
        decide(&*sampler, &SpanKind::Client, parent, link)
    }

    fn decide(
        sampler: &dyn ShouldSample,
        kind: &SpanKind,
        parent: Option<&str>,
        link: Option<&str>,
    ) -> bool {
        let parse = |text| Traceparent::parse(text).expect("a traceparent");
        let parent = parent.map(|text| parse(text).context(None));
        let links = link.map(|text| Link::with_context(parse(text).span_context(None)));
        let links = Vec::from_iter(links);
        let parent = parent.unwrap_or_default();
        let id = TraceId::from(1);
        let result = sampler.should_sample(Some(&parent), id, "", kind, &[], &links);
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
    fn callers_decide_up_to_a_rate_and_what_follows_from_their_requests_is_not_counted() {
        let sampler = TracesSampler::ParentBasedTraceIdRatio.build(0.0, NonZeroU32::MIN);
        let sampled = |kind: &SpanKind| {
            let decisions = (0..1_000).map(|_| decide(&*sampler, kind, Some(SAMPLED), None));
            decisions.filter(|is_sampled| *is_sampled).count()
        };
        assert!((1..1_000).contains(&sampled(&SpanKind::Server)));
        assert_eq!(sampled(&SpanKind::Client), 1_000);
        assert_eq!(sampled(&SpanKind::Consumer), 1_000);
        let all = TracesSampler::AlwaysOn.build(0.0, NonZeroU32::MIN);
        let decide = || decide(&*all, &SpanKind::Server, Some(SAMPLED), None);
        assert!((0..10).all(|_| decide()));
    }

    #[test]
    fn a_sampler_that_is_not_parent_based_asks_nobody() {
        assert!(!is_sampled(TracesSampler::AlwaysOff, Some(SAMPLED), None));
        assert!(is_sampled(TracesSampler::AlwaysOn, Some(UNSAMPLED), None));
    }
}
