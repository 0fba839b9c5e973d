//! From the first message to the first failure.

use std::{pin::pin, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use tokio::time;
use tokio_util::sync::CancellationToken;

use super::{
    deliveries::Deliveries,
    settler::{Interrupted, Settler},
};

/// How many batches may be on their way into MongoDB at once: one is read and acknowledged while
/// the other is written. In which order they are written makes no difference.
const MAX_BATCHES: usize = 2;

/// Follows `deliveries` until `shutdown`, after which the batches in hand have `grace` to be
/// finished. Sets `progress` once a batch is settled. What was not settled is given back.
pub(super) async fn run(
    mut deliveries: Deliveries,
    settler: &Settler,
    progress: &mut bool,
    shutdown: &CancellationToken,
    grace: Duration,
) -> anyhow::Result<()> {
    let mut grace_over = pin!(async {
        shutdown.cancelled().await;
        time::sleep(grace).await;
    });
    let mut in_hand = FuturesUnordered::new();
    let mut held = Vec::new();
    let mut ended = None;
    while ended.is_none() || !in_hand.is_empty() {
        let takes_more = ended.is_none() && in_hand.len() < MAX_BATCHES;
        tokio::select! {
            Some(settled) = in_hand.next() => match settled {
                Ok(()) => *progress = true,
                Err(Interrupted { unsettled, error }) => {
                    held.extend(unsettled);
                    ended = Some(Err(error));
                }
            },
            () = shutdown.cancelled(), if ended.is_none() => ended = Some(Ok(())),
            () = &mut grace_over => {
                tracing::warn!("stopping in the middle of a batch; its events will come again");
                break;
            }
            batch = deliveries.next_batch(), if takes_more => match batch {
                Ok(batch) => in_hand.push(settler.settle(batch)),
                Err(error) => ended = Some(Err(error)),
            },
        }
    }
    deliveries.close(held).await;
    ended.unwrap_or(Ok(()))
}
