//! What differs may only be late: it is looked at again until it agrees, or the time to settle is over.

use event_consumer::Lag;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::{self, Duration, Instant};

use super::{
    compare::{Difference, Suspect, Verifier},
    repair,
};

/// Users that are looked at together.
pub(super) const MAX_SUSPECTS: usize = 10_000;
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// How sure differences are found and what is done about them.
#[derive(Debug, Clone)]
pub(crate) struct Judge {
    /// How long a difference must last to be one.
    pub(crate) settle: Duration,
    pub(crate) repairs: bool,
    /// Of the consumer that writes the copy, if it is known here.
    pub(crate) lag: Option<Lag>,
}

/// What became of suspects.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) repaired: usize,
    /// They were not repaired because the copy is behind: what it lacks may be on its way.
    pub(crate) put_off: usize,
    /// They differ for good, after a repair if there was to be one.
    pub(crate) differences: Vec<Difference>,
}

impl Judge {
    pub(crate) async fn judge(
        &self,
        verifier: &Verifier,
        suspects: &[Suspect],
    ) -> anyhow::Result<Verdict> {
        let mut verdict = Verdict::default();
        for suspects in suspects.chunks(MAX_SUSPECTS) {
            let mut sure = settled(verifier, suspects.to_vec(), self.settle).await?;
            if self.repairs && self.is_behind() {
                verdict.put_off += sure.len();
            } else if self.repairs && !sure.is_empty() {
                let republished = repair::republish(verifier, &sure).await?;
                let differed = sure.len();
                sure = settled(verifier, republished, self.settle).await?;
                verdict.repaired += differed - sure.len();
            }
            verdict.differences.extend(sure);
        }
        Ok(verdict)
    }

    /// What is not known counts as behind: nobody may be working off what is published.
    fn is_behind(&self) -> bool {
        let lag = self.lag.as_ref();
        lag.is_some_and(|lag| lag.check(self.settle).is_err())
    }
}

/// Looks at the suspects until they agree; what still differs after `settle`.
async fn settled(
    verifier: &Verifier,
    mut suspects: Vec<Suspect>,
    settle: Duration,
) -> anyhow::Result<Vec<Difference>> {
    let deadline = Instant::now() + settle;
    loop {
        let looks = stream::iter(suspects)
            .map(async |suspect| {
                let difference = verifier.look(suspect).await?;
                anyhow::Ok(difference.map(|difference| (suspect, difference)))
            })
            .buffered(verifier.concurrency)
            .try_filter_map(async |found| Ok(found));
        let found: Vec<_> = looks.try_collect().await?;
        if found.is_empty() || Instant::now() >= deadline {
            return Ok(found
                .into_iter()
                .map(|(_, difference)| difference)
                .collect());
        }
        let again = found.into_iter().map(|(suspect, difference)| Suspect {
            version: suspect.version.or(difference.user_version),
            ..suspect
        });
        suspects = again.collect();
        time::sleep(LOOK_AGAIN).await;
    }
}
