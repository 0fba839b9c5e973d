//! From the first message to the first failure.

use futures::{StreamExt, stream::FuturesUnordered};
use tokio_util::sync::CancellationToken;

use super::{
    deliveries::Deliveries,
    settler::{Interrupted, Settler},
};

/// How many batches may be on their way into MongoDB at once: one is read and acknowledged while
/// the other is written. In which order they are written makes no difference.
const MAX_BATCHES: usize = 2;

/// Follows `deliveries` until `shutdown`, which lets the batches in hand be finished. Sets
/// `progress` once a batch is settled. What was not settled is given back.
pub(super) async fn run(
    mut deliveries: Deliveries,
    settler: &Settler,
    progress: &mut bool,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
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
            batch = deliveries.next_batch(), if takes_more => match batch {
                Ok(batch) => in_hand.push(settler.settle(batch)),
                Err(error) => ended = Some(Err(error)),
            },
        }
    }
    deliveries.close(held).await;
    ended.unwrap_or(Ok(()))
}
