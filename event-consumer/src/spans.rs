//! Spans of messages, by OpenTelemetry's conventions for messaging: `receive` for a batch, `process` for
//! each message of a sampled trace, and below those what the handler calls.
//!
//! A batch has messages of many traces, so `receive` is in none of them: it is linked to what created
//! them. `process` continues the trace of the event. Messages of traces that are not sampled cost a look
//! at one flag.

use std::{borrow::Cow, ops::Range, sync::Arc};

use async_nats::HeaderName;
use opentelemetry::{
    Context, KeyValue,
    trace::{Link, SpanBuilder, SpanContext, SpanKind, TraceContextExt},
};
use service_runtime::{
    nats::{
        ConsumerName, Topic,
        headers::{TRACEPARENT, TRACESTATE},
    },
    telemetry::{spans, trace_context::Traceparent},
};

use crate::{Message, Verdict};

const LIBRARY: &str = "event-consumer";

/// Makes the spans of one consumer.
#[derive(Debug, Clone)]
pub(crate) struct MessageSpans {
    topic: Topic,
    consumer: ConsumerName,
}

impl MessageSpans {
    pub(crate) fn new(topic: &Topic, consumer: &ConsumerName) -> Self {
        Self {
            topic: topic.clone(),
            consumer: consumer.clone(),
        }
    }

    /// Of a batch that is about to be handled; `None` if no trace of its messages is sampled.
    pub(crate) fn receive(&self, batch: &[Message]) -> Option<Received> {
        if !spans::are_on() {
            return None;
        }
        let sampled = (batch.iter().enumerate())
            .filter_map(|(place, message)| Some((place, creation_context(message)?)));
        let sampled: Vec<_> = sampled.collect();
        if sampled.is_empty() {
            return None;
        }
        let links = sampled.iter().map(|(place, creation)| {
            let id = batch[*place].id().unwrap_or_default().to_owned();
            let attributes = vec![KeyValue::new("messaging.message.id", id)];
            Link::new(span_context(creation), attributes, 0)
        });
        let count = KeyValue::new("messaging.batch.message_count", integer(batch.len()));
        let span = self
            .span("receive", SpanKind::Client, [count])
            .with_links(links.collect());
        // It ends here: the messages have arrived.
        let receive = spans::start_in_context(LIBRARY, span, &Context::new());
        Some(Received {
            spans: self.clone(),
            receive: span_context(&receive),
            sampled,
        })
    }

    fn span(
        &self,
        operation: &'static str,
        kind: SpanKind,
        more: impl IntoIterator<Item = KeyValue>,
    ) -> SpanBuilder {
        let subject = &self.topic.subject;
        let common = [
            KeyValue::new("messaging.system", "nats"),
            KeyValue::new("messaging.operation.name", operation),
            KeyValue::new("messaging.operation.type", operation),
            KeyValue::new("messaging.destination.name", subject.clone()),
            KeyValue::new("messaging.consumer.group.name", self.consumer.to_string()),
            KeyValue::new("messaging.nats.stream", self.topic.stream.clone()),
        ];
        SpanBuilder::from_name(format!("{operation} {subject}"))
            .with_kind(kind)
            .with_attributes(common.into_iter().chain(more))
    }
}

/// The messages of a batch whose traces are sampled, by their places.
#[derive(Debug)]
pub(crate) struct Received {
    spans: MessageSpans,
    receive: SpanContext,
    sampled: Vec<(usize, Context)>,
}

impl Received {
    /// Begins a span for each of them that is in this part of the batch, and is handed out now.
    pub(crate) fn process(&self, batch: &[Message], part: Range<usize>) -> Processing {
        let of_part = (self.sampled.iter()).filter(|(place, _)| part.contains(place));
        let begin = |(place, creation): &(usize, Context)| {
            let context = self.begin(&batch[*place], creation);
            (place - part.start, context)
        };
        Processing {
            messages: of_part.map(begin).collect(),
            is_decided: false,
        }
    }

    fn begin(&self, message: &Message, creation: &Context) -> Context {
        let id = message.id().unwrap_or_default().to_owned();
        let bytes = integer(message.payload().len());
        let mut attributes = vec![
            KeyValue::new("messaging.message.id", id),
            KeyValue::new("messaging.message.body.size", bytes),
        ];
        if let Some(delivery) = message.delivery() {
            let (sequence, deliveries) = (delivery.stream_sequence, delivery.deliveries);
            attributes.extend([
                KeyValue::new("messaging.nats.stream_sequence", integer(sequence)),
                KeyValue::new("messaging.nats.delivery_count", integer(deliveries)),
            ]);
        }
        let span = (self.spans)
            .span("process", SpanKind::Consumer, attributes)
            .with_links(vec![
                Link::with_context(span_context(creation)),
                Link::with_context(self.receive.clone()),
            ]);
        spans::start_in_context(LIBRARY, span, creation)
    }
}

/// The spans of messages that the handler has in hand. They end when this is dropped.
#[derive(Debug)]
pub(crate) struct Processing {
    messages: Vec<(usize, Context)>,
    is_decided: bool,
}

impl Processing {
    /// For the handler to run in: what it calls is below these spans.
    pub(crate) fn context(&self) -> Option<Context> {
        let (_, first) = self.messages.first()?;
        let all = self.messages.iter().map(|(_, context)| context.clone());
        Some(first.with_value(Handled(all.collect())))
    }

    pub(crate) fn decided(&mut self, verdicts: &[Verdict]) {
        self.is_decided = true;
        for (place, context) in &self.messages {
            match &verdicts[*place] {
                Verdict::Ack => set_verdict(context, "acknowledged"),
                Verdict::Retry { .. } => {
                    spans::fail(context, "retried");
                    set_verdict(context, "retried");
                }
                Verdict::Reject(rejection) => spans::fail(context, rejection.category.clone()),
            }
        }
    }

    /// What became of the rejected message at this place.
    pub(crate) fn rejected(&self, place: usize, is_stored: bool) {
        let message = self.messages.iter().find(|(it, _)| *it == place);
        if let Some((_, context)) = message {
            let verdict = if is_stored {
                "dead_lettered"
            } else {
                "retried"
            };
            set_verdict(context, verdict);
        }
    }
}

fn set_verdict(context: &Context, verdict: &'static str) {
    let verdict = KeyValue::new("event_consumer.verdict", verdict);
    context.span().set_attribute(verdict);
}

impl Drop for Processing {
    fn drop(&mut self) {
        for (_, context) in &self.messages {
            if !self.is_decided {
                spans::fail(context, "interrupted");
            }
            // The handler's context may outlive this.
            context.span().end();
        }
    }
}

/// All spans of messages that the handler has in hand: the one that is current is the first of them.
struct Handled(Arc<[Context]>);

/// Spans of one call that serves all messages in hand, one below that of each message.
#[derive(Debug)]
pub struct CallSpans(Vec<Context>);

impl CallSpans {
    /// Begins them, within [`Handler::handle`](crate::Handler::handle), for the messages whose traces are
    /// sampled; usually there are none. They end when this is dropped.
    #[must_use]
    pub fn start(library: &'static str, span: impl Fn() -> SpanBuilder) -> Self {
        if !spans::are_on() {
            return Self(Vec::new());
        }
        let start = |parent: &Context| spans::start_in_context(library, span(), parent);
        Self(Context::map_current(|current| {
            let handled = current.get::<Handled>();
            handled.map_or_else(Vec::new, |it| it.0.iter().map(start).collect())
        }))
    }

    /// The kind of error is one of few words, without anything from the data.
    pub fn fail(&self, kind: impl Into<Cow<'static, str>>) {
        let kind = kind.into();
        for context in &self.0 {
            spans::fail(context, kind.clone());
        }
    }
}

fn creation_context(message: &Message) -> Option<Context> {
    let header = |name| {
        Some(
            message
                .headers()?
                .get(HeaderName::from_static(name))?
                .as_str(),
        )
    };
    let traceparent = header(TRACEPARENT).and_then(Traceparent::parse_sampled)?;
    Some(traceparent.context(header(TRACESTATE)))
}

fn span_context(context: &Context) -> SpanContext {
    context.span().span_context().clone()
}

fn integer(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}
