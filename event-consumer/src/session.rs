//! From the first message to the first failure.

use std::{pin::pin, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use tokio::time;
use tokio_util::sync::CancellationToken;

use crate::{
    Handler,
    batch_processor::{BatchProcessor, Interrupted},
    pull_subscription::PullSubscription,
};

/// How many batches may be with the handler at once: one is read and acknowledged while the other
/// takes effect.
const MAX_BATCHES: usize = 2;

/// Follows the subscription until `shutdown`, after which the batches in hand have `grace` to be
/// finished, or until the stream or the store has `changed`. Sets `worked` once a batch is processed. What was
/// not processed is given back.
pub(crate) async fn run<H: Handler>(
    mut subscription: PullSubscription,
    processor: &BatchProcessor<H>,
    worked: &mut bool,
    changed: impl Future<Output = anyhow::Error>,
    shutdown: &CancellationToken,
    grace: Duration,
) -> anyhow::Result<()> {
    let mut grace_over = pin!(async {
        shutdown.cancelled().await;
        time::sleep(grace).await;
    });
    let mut changed = pin!(changed);
    let mut in_hand = FuturesUnordered::new();
    let mut held = Vec::new();
    let mut ended = None;
    while ended.is_none() || !in_hand.is_empty() {
        let takes_more = ended.is_none() && in_hand.len() < MAX_BATCHES;
        tokio::select! {
            Some(processed) = in_hand.next() => match processed {
                Ok(()) => *worked = true,
                Err(Interrupted { unprocessed, error }) => {
                    held.extend(unprocessed);
                    ended = Some(Err(error));
                }
            },
            () = shutdown.cancelled(), if ended.is_none() => ended = Some(Ok(())),
            error = &mut changed, if ended.is_none() => ended = Some(Err(error)),
            () = &mut grace_over => {
                tracing::warn!("stopping in the middle of a batch; its messages will come again");
                break;
            }
            batch = subscription.next_batch(), if takes_more => match batch {
                Ok(batch) => in_hand.push(processor.process(batch)),
                Err(error) => ended = Some(Err(error)),
            },
        }
    }
    subscription.close(held).await;
    ended.unwrap_or(Ok(()))
}
