//! `notification-service verify`: whether the two services agree, by their public APIs.
//!
//! Both lists are walked page by page, in the order of ids and side by side. What differs may only
//! be late: it is looked at again until it agrees, or the time to settle is over. What differs then
//! can be repaired by publishing just those users again.

mod api_client;
mod compare;
mod holes;
mod repair;
mod report;

use anyhow::bail;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::{self, Duration, Instant};

use self::{
    api_client::{ApiClient, Pages},
    compare::{Difference, Suspect, Verifier},
    holes::Holes,
    report::Report,
};
use crate::config::VerifyConfig;

/// What is kept in memory to be looked at again; with more, the walk waits for it to settle.
const MAX_SUSPECTS: usize = 10_000;
const CONCURRENCY: usize = 16;
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Prints each difference when it is sure, and the counts at the end.
///
/// # Errors
/// If the two services differ (after the repair), or one of them does not answer.
pub(crate) async fn run(config: VerifyConfig) -> anyhow::Result<()> {
    let verifier = Verifier {
        users: ApiClient::users(&config.users, config.users_token)?,
        copies: ApiClient::notifications(&config.notifications, config.notifications_token)?,
    };
    let holes = Holes::look(&verifier.copies).await?;
    let mut report = Report::new(config.json);
    let mut walk = Walk {
        verifier: &verifier,
        settle: config.settle,
        repairs: config.repair,
        report: &mut report,
    };
    walk.run().await?;
    report.finish()?;
    match report.differences() {
        0 => match holes {
            Some(holes) => holes.clear(&verifier.copies).await,
            None => Ok(()),
        },
        differences => bail!("the copy differs in {differences} users"),
    }
}

struct Walk<'a> {
    verifier: &'a Verifier,
    settle: Duration,
    repairs: bool,
    report: &'a mut Report,
}

impl Walk<'_> {
    async fn run(&mut self) -> anyhow::Result<()> {
        let mut users = Pages::new(&self.verifier.users);
        let mut copies = Pages::new(&self.verifier.copies);
        let mut suspects = Vec::new();
        loop {
            let user = users.peek().await?;
            let copy = copies.peek().await?;
            let Some(id) = [user, copy].into_iter().flatten().map(|it| it.id).min() else {
                return self.judge(suspects).await;
            };
            let user = user.filter(|it| it.id == id).cloned();
            let copy = copy.filter(|it| it.id == id).cloned();
            self.report.seen(user.is_some(), copy.is_some());
            if user != copy {
                let record = user.and_then(|user| user.record);
                suspects.push(Suspect::new(id, record.as_ref()));
            }
            users.pass(id);
            copies.pass(id);
            if suspects.len() >= MAX_SUSPECTS {
                self.judge(std::mem::take(&mut suspects)).await?;
            }
        }
    }

    /// Reports those who differ for good, after a repair if there is to be one.
    async fn judge(&mut self, suspects: Vec<Suspect>) -> anyhow::Result<()> {
        let mut sure = settled(self.verifier, suspects, self.settle).await?;
        if self.repairs && !sure.is_empty() {
            let republished = repair::republish(&self.verifier.users, &sure).await?;
            let differed = sure.len();
            sure = settled(self.verifier, republished, self.settle).await?;
            self.report.repaired(differed - sure.len());
        }
        self.report.differ(&sure)
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
            .buffered(CONCURRENCY)
            .try_filter_map(async |found| Ok(found));
        let found: Vec<_> = looks.try_collect().await?;
        if found.is_empty() || Instant::now() >= deadline {
            return Ok(found
                .into_iter()
                .map(|(_, difference)| difference)
                .collect());
        }
        suspects = found.into_iter().map(|(suspect, _)| suspect).collect();
        time::sleep(LOOK_AGAIN).await;
    }
}
