//! Brings each message to its end: acknowledged, stored as a dead letter, or left to come again.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use async_nats::jetstream::AckKind;
use futures::future::try_join_all;
use service_runtime::{progress::Progress, telemetry::spans};
use tokio::time::{self, Instant};

use crate::{
    Handler, HandlerError, Message, Verdict,
    batch_size::BatchSize,
    dead_letters::DeadLetterWriter,
    decisions,
    metrics::WorkMetrics,
    spans::{MessageSpans, Processing, Received},
};

/// How long answers may wait for a connection; without one, the messages come again anyway.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);

pub(crate) struct BatchProcessor<H> {
    handler: Arc<H>,
    dead_letters: DeadLetterWriter,
    batch_size: Arc<BatchSize>,
    progress: Progress,
    metrics: WorkMetrics,
    spans: MessageSpans,
}

/// A failure that is not the messages' own, and those that it left as they were.
pub(crate) struct Interrupted {
    pub(crate) unprocessed: Vec<Message>,
    pub(crate) error: anyhow::Error,
}

impl<H: Handler> BatchProcessor<H> {
    pub(crate) fn new(
        handler: Arc<H>,
        dead_letters: DeadLetterWriter,
        batch_size: Arc<BatchSize>,
        progress: Progress,
        metrics: WorkMetrics,
        spans: MessageSpans,
    ) -> Self {
        Self {
            handler,
            dead_letters,
            batch_size,
            progress,
            metrics,
            spans,
        }
    }

    /// In parts of the present batch size: what one has achieved is acknowledged before the next.
    pub(crate) async fn process(&self, mut batch: Vec<Message>) -> Result<(), Interrupted> {
        self.metrics.received(&batch);
        decisions::received(&batch);
        let received = self.spans.receive(&batch);
        let mut done = 0;
        while done < batch.len() {
            let size = self.batch_size.get().min(batch.len() - done);
            let part = &batch[done..done + size];
            let begin = |it: &Received| it.process(&batch, done..done + size);
            let mut processing = received.as_ref().map(begin);
            let context = processing.as_ref().and_then(Processing::context);
            let verdicts = match spans::within(context, self.handle(part)).await {
                Ok(Some(verdicts)) => verdicts,
                Ok(None) => continue,
                Err(error) => {
                    let unprocessed = batch.split_off(done);
                    self.metrics.retried(unprocessed.len());
                    return Err(Interrupted { unprocessed, error });
                }
            };
            if let Some(processing) = &mut processing {
                processing.decided(&verdicts);
            }
            if let Err(error) = self.carry_out(part, verdicts, processing.as_ref()).await {
                // What can't be answered can't be given back: it comes again after the ack wait.
                let unprocessed = batch.split_off(done + size);
                return Err(Interrupted { unprocessed, error });
            }
            done += size;
        }
        Ok(())
    }

    /// `None` if the batch was too large, and the next one is to be smaller.
    async fn handle(&self, batch: &[Message]) -> anyhow::Result<Option<Vec<Verdict>>> {
        let started = Instant::now();
        let handled = self.handler.handle(batch).await;
        self.metrics.handled(batch.len(), started.elapsed());
        match handled {
            Ok(verdicts) => {
                ensure!(
                    verdicts.len() == batch.len(),
                    "the handler gave {} verdicts on {} messages",
                    verdicts.len(),
                    batch.len()
                );
                self.batch_size.took(batch.len(), started.elapsed());
                self.progress.succeeded();
                Ok(Some(verdicts))
            }
            Err(HandlerError::TooSlow(_)) if self.batch_size.exceeded(batch.len()) => {
                tracing::warn!(
                    messages = batch.len(),
                    "the handler is slow; giving it fewer messages at once"
                );
                Ok(None)
            }
            Err(HandlerError::TooSlow(error)) => Err(error),
            Err(HandlerError::Unavailable(error)) => {
                self.batch_size.failed(batch.len(), started.elapsed());
                Err(error)
            }
        }
    }

    /// Answers without a round trip; only rejected messages wait for their dead letters.
    async fn carry_out(
        &self,
        batch: &[Message],
        verdicts: Vec<Verdict>,
        processing: Option<&Processing>,
    ) -> anyhow::Result<()> {
        let mut acknowledged = Vec::with_capacity(batch.len());
        let mut rejected = Vec::new();
        let answers = async {
            for (place, (message, verdict)) in batch.iter().zip(verdicts).enumerate() {
                let answer = match verdict {
                    Verdict::Ack => {
                        acknowledged.push(message);
                        AckKind::Ack
                    }
                    Verdict::Retry { after } => AckKind::Nak(Some(after)),
                    Verdict::Reject(rejection) => {
                        rejected.push((place, rejection));
                        continue;
                    }
                };
                let answered = message.original.ack_with(answer).await;
                answered.map_err(anyhow::Error::from_boxed)?;
            }
            anyhow::Ok(())
        };
        time::timeout(ANSWER_DEADLINE, answers)
            .await
            .context("no connection to answer over")??;
        self.metrics.acknowledged(&acknowledged);
        decisions::acknowledged(&acknowledged);
        let retried = batch.len() - acknowledged.len() - rejected.len();
        self.metrics.retried(retried);
        let set_aside = rejected.iter().map(async |(place, rejection)| {
            let message = &batch[*place];
            let storing = self.dead_letters.set_aside(&message.original, rejection);
            let is_stored = storing.await?;
            match is_stored {
                true => self.metrics.dead_lettered(1),
                false => self.metrics.retried(1),
            }
            if let Some(processing) = processing {
                processing.rejected(*place, is_stored);
            }
            self.handler.rejected(message, is_stored);
            anyhow::Ok(())
        });
        try_join_all(set_aside).await.map(drop)
    }
}
