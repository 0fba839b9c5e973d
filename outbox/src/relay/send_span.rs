//! A span for each event that is sent, from the send to the acknowledgement, by OpenTelemetry's
//! conventions for messaging.

use async_nats::{
    HeaderMap, HeaderName,
    jetstream::{context::PublishError, publish::PublishAck},
};
use opentelemetry::{
    Context, KeyValue,
    trace::{Link, SpanBuilder, SpanKind, TraceContextExt},
};
use service_runtime::{
    nats::{
        Topic,
        headers::{MESSAGE_ID, TRACEPARENT, TRACESTATE},
    },
    telemetry::{spans, trace_context::Traceparent},
};

/// Nothing unless the event was created in a sampled trace. That is where the span belongs, below what
/// created the event and linked to it; the event itself keeps its context.
#[derive(Debug)]
pub(super) struct SendSpan(Option<Context>);

impl SendSpan {
    pub(super) fn start(headers: &HeaderMap, topic: &Topic, body_bytes: usize) -> Self {
        if !spans::are_on() {
            return Self(None);
        }
        let header = |name| Some(headers.get(HeaderName::from_static(name))?.as_str());
        let Some(creation) = header(TRACEPARENT).and_then(Traceparent::parse_sampled) else {
            return Self(None);
        };
        let creation = creation.context(header(TRACESTATE));
        let link = Link::with_context(creation.span().span_context().clone());
        let span = SpanBuilder::from_name(format!("send {}", topic.subject))
            .with_kind(SpanKind::Client)
            .with_links(vec![link])
            .with_attributes([
                KeyValue::new("messaging.system", "nats"),
                KeyValue::new("messaging.operation.name", "send"),
                KeyValue::new("messaging.operation.type", "send"),
                KeyValue::new("messaging.destination.name", topic.subject.clone()),
                KeyValue::new("messaging.nats.stream", topic.stream.clone()),
                KeyValue::new(
                    "messaging.message.id",
                    header(MESSAGE_ID).unwrap_or_default().to_owned(),
                ),
                KeyValue::new("messaging.message.body.size", integer(body_bytes as u64)),
            ]);
        Self(Some(spans::start_in_context("outbox", span, &creation)))
    }

    pub(super) fn conclude(&mut self, answer: &Result<PublishAck, PublishError>) {
        let Some(context) = self.0.take() else {
            return;
        };
        let span = context.span();
        match answer {
            Ok(ack) => {
                let sequence = integer(ack.sequence);
                span.set_attribute(KeyValue::new("messaging.nats.stream_sequence", sequence));
                span.set_attribute(KeyValue::new("messaging.nats.duplicate", ack.duplicate));
            }
            Err(error) => spans::fail(&context, format!("{:?}", error.kind())),
        }
        span.end();
    }
}

/// Nobody knows whether it was stored: it was not sent, or the session has ended.
impl Drop for SendSpan {
    fn drop(&mut self) {
        if let Some(context) = &self.0 {
            spans::fail(context, "unacknowledged");
        }
    }
}

fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
