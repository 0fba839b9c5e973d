//! Sending spans to the collector. Nobody waits for it: what finds no room in the queue, or is not
//! taken in time, is dropped and counted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use backon::BackoffBuilder;
use metrics::Counter;
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{Span, SpanData, SpanExporter, SpanProcessor},
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    backoff,
    metrics::{SPANS_DROPPED, SPANS_EXPORTED},
};

/// Spans that wait, at most: some megabytes.
const QUEUE: usize = 4096;
/// Spans in one request.
const BATCH: usize = 512;
/// How long spans wait for company.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long the collector may take for a batch, with all attempts.
const EXPORT_DEADLINE: Duration = Duration::from_secs(10);
/// Of one span: those of the largest batch of messages.
pub(super) const MAX_LINKS: u32 = 1000;

/// Takes the spans that have ended.
#[derive(Debug)]
pub(super) struct SpanQueue {
    spans: mpsc::Sender<SpanData>,
    overflowed: Arc<AtomicU64>,
}

impl SpanProcessor for SpanQueue {
    fn on_start(&self, _: &mut Span, _: &opentelemetry::Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.spans.try_send(span).is_err() {
            self.overflowed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The task that sends the spans ends with the others of the process.
    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Sends them.
#[derive(Debug)]
pub(super) struct Export<E> {
    exporter: E,
    spans: mpsc::Receiver<SpanData>,
    overflowed: Arc<AtomicU64>,
    /// Taken out of the queue.
    batch: Vec<SpanData>,
    /// Spans that are with the collector right now.
    sending: usize,
    /// Spans dropped since the collector last took some; logged when it does so again.
    dropped: u64,
    counters: Counters,
}

#[derive(Debug)]
struct Counters {
    exported: Counter,
    queue_full: Counter,
    export_failed: Counter,
    shutdown: Counter,
}

pub(super) fn queue<E: SpanExporter>(exporter: E) -> (SpanQueue, Export<E>) {
    let (sender, spans) = mpsc::channel(QUEUE);
    let overflowed = Arc::new(AtomicU64::new(0));
    let queue = SpanQueue {
        spans: sender,
        overflowed: Arc::clone(&overflowed),
    };
    let export = Export {
        exporter,
        spans,
        overflowed,
        batch: Vec::with_capacity(BATCH),
        sending: 0,
        dropped: 0,
        counters: Counters {
            exported: SPANS_EXPORTED.with([]),
            queue_full: SPANS_DROPPED.with(["queue_full"]),
            export_failed: SPANS_DROPPED.with(["export_failed"]),
            shutdown: SPANS_DROPPED.with(["shutdown"]),
        },
    };
    (queue, export)
}

impl<E: SpanExporter> Export<E> {
    /// Sends spans until `end`, and then those that are left, for at most `flush_deadline`.
    pub(super) async fn run(
        mut self,
        end: CancellationToken,
        flush_deadline: Duration,
    ) -> anyhow::Result<()> {
        let late = async {
            end.cancelled().await;
            sleep(flush_deadline).await;
        };
        tokio::select! {
            () = self.work(&end) => {}
            () = late => {
                self.note_overflow();
                let left = self.sending + self.batch.len() + self.spans.len();
                self.counters.shutdown.increment(left as u64);
                self.report_dropped(left as u64, "the process has ended");
            }
        }
        Ok(())
    }

    async fn work(&mut self, end: &CancellationToken) {
        let mut delays = backoff::unbounded().build();
        while end.run_until_cancelled(self.gather()).await.is_some() {
            if self.send().await {
                delays = backoff::unbounded().build();
            } else {
                let pause = sleep(delays.next().unwrap_or_default());
                end.run_until_cancelled(pause).await;
            }
        }
        while self.take_ready() {
            self.send().await;
        }
    }

    /// Waits for a span, and then briefly for more. What it has when it is dropped stays in the batch.
    async fn gather(&mut self) {
        let Self { spans, batch, .. } = self;
        if spans.recv_many(batch, BATCH).await == 0 {
            // Nobody makes spans any more.
            std::future::pending::<()>().await;
        }
        let filling = async {
            while batch.len() < BATCH && spans.recv_many(batch, BATCH - batch.len()).await > 0 {}
        };
        // What is there by then is enough.
        let _ = timeout(INTERVAL, filling).await;
    }

    /// Whether there is anything left to send.
    fn take_ready(&mut self) -> bool {
        while self.batch.len() < BATCH
            && let Ok(span) = self.spans.try_recv()
        {
            self.batch.push(span);
        }
        !self.batch.is_empty()
    }

    /// Whether the collector has taken the batch.
    async fn send(&mut self) -> bool {
        self.note_overflow();
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH));
        self.sending = batch.len();
        let sent = timeout(EXPORT_DEADLINE, self.exporter.export(batch)).await;
        let spans = std::mem::take(&mut self.sending) as u64;
        let refusal = match sent {
            Ok(Ok(())) => {
                self.report_taken(spans);
                return true;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the collector does not answer in time".to_owned(),
        };
        self.counters.export_failed.increment(spans);
        self.report_dropped(spans, &refusal);
        false
    }

    fn note_overflow(&mut self) {
        let overflowed = self.overflowed.swap(0, Ordering::Relaxed);
        self.counters.queue_full.increment(overflowed);
        self.report_dropped(overflowed, "the queue is full");
    }

    fn report_taken(&mut self, spans: u64) {
        self.counters.exported.increment(spans);
        let dropped_spans = std::mem::take(&mut self.dropped);
        if dropped_spans > 0 {
            tracing::info!(dropped_spans, "the collector takes spans again");
        }
    }

    /// Logged once, until the collector takes spans again.
    fn report_dropped(&mut self, spans: u64, reason: &str) {
        if spans > 0 && self.dropped == 0 {
            tracing::warn!(reason, "spans are dropped until the collector takes them");
        }
        self.dropped += spans;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };

    use opentelemetry::trace::{Tracer, TracerProvider};
    use opentelemetry_sdk::{
        error::OTelSdkResult,
        trace::{SdkTracerProvider, SpanData, SpanExporter},
    };
    use tokio::{sync::Notify, time::Instant};
    use tokio_util::sync::CancellationToken;

    use super::{Export, QUEUE, queue};

    const FLUSH_DEADLINE: Duration = Duration::from_secs(2);

    #[derive(Debug, Clone, Default)]
    struct Collector {
        hangs: bool,
        /// Told of each request.
        asked: Arc<Notify>,
        taken: Arc<AtomicUsize>,
    }

    impl SpanExporter for Collector {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.asked.notify_one();
            if self.hangs {
                std::future::pending::<()>().await;
            }
            self.taken.fetch_add(batch.len(), Ordering::Relaxed);
            Ok(())
        }
    }

    fn make(spans: usize, collector: &Collector) -> Export<Collector> {
        let (queue, export) = queue(collector.clone());
        let provider = SdkTracerProvider::builder()
            .with_span_processor(queue)
            .build();
        let tracer = provider.tracer("test");
        for _ in 0..spans {
            tracer.start("a span");
        }
        export
    }

    #[tokio::test(start_paused = true)]
    async fn spans_that_find_no_room_are_dropped_and_the_others_are_sent() {
        let collector = Collector::default();
        let export = make(QUEUE + 100, &collector);
        let overflowed = Arc::clone(&export.overflowed);
        assert_eq!(overflowed.load(Ordering::Relaxed), 100);
        let end = CancellationToken::new();
        end.cancel();
        export.run(end, FLUSH_DEADLINE).await.expect("an end");
        assert_eq!(collector.taken.load(Ordering::Relaxed), QUEUE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_collector_that_hangs_holds_up_the_end_no_longer_than_the_deadline() {
        let hanging = Collector {
            hangs: true,
            ..Collector::default()
        };
        let export = make(10, &hanging);
        let end = CancellationToken::new();
        let ending = async {
            hanging.asked.notified().await;
            end.cancel();
            Instant::now()
        };
        let (ended, began) = tokio::join!(export.run(end.clone(), FLUSH_DEADLINE), ending);
        ended.expect("an end");
        assert_eq!(began.elapsed(), FLUSH_DEADLINE);
    }
}
