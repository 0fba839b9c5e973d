//! Whether the two services agree: `notification-service verify`, and what the verification in the
//! background shares with it.
//!
//! Both sides give digests of ranges of ids, which are compared; where they differ, so are those of
//! smaller ranges, down to single users (or both lists are walked side by side, if a side offers no
//! digests). What differs may only be late: it is looked at again until it agrees, or the time to
//! settle is over. What differs then can be repaired by publishing just those users again.

mod api_client;
mod compare;
mod copies;
mod descent;
mod holes;
mod lists;
mod repair;
mod report;
mod settle;

use anyhow::bail;
use service_runtime::progress::Progress;

pub(crate) use self::{
    api_client::{ApiClient, Refused},
    compare::{Difference, Verifier},
    copies::Copies,
    descent::Compared,
    settle::{Judge, Verdict},
};
use self::{holes::Holes, report::Report};
use crate::{config::VerifyConfig, notifications::Pace};

const CONCURRENCY: usize = 16;

/// Prints each difference when it is sure, and the counts at the end.
///
/// # Errors
/// If the two services differ (after the repair), or one of them does not answer.
pub(crate) async fn run(config: VerifyConfig) -> anyhow::Result<()> {
    let copies = ApiClient::notifications(&config.notifications, config.notifications_token)?;
    let verifier = Verifier {
        users: ApiClient::users(&config.users, config.users_token)?,
        copies: Copies::Api(copies.clone()),
        pace: Pace::unlimited(Progress::new("verify")),
        concurrency: CONCURRENCY,
    };
    let judge = Judge {
        settle: config.settle,
        repairs: config.repair,
        lag: None,
    };
    let holes = Holes::look(&copies).await?;
    let mut report = Report::new(config.json);
    if config.full || !compare_digests(&verifier, &judge, &mut report).await? {
        lists::walk(&verifier, &copies, &judge, &mut report).await?;
    }
    report.finish()?;
    match report.differences() {
        0 => match holes {
            Some(holes) => holes.clear(&copies).await,
            None => Ok(()),
        },
        differences => bail!("the copy differs in {differences} users"),
    }
}

/// False if one of the services offers no digests.
async fn compare_digests(
    verifier: &Verifier,
    judge: &Judge,
    report: &mut Report,
) -> anyhow::Result<bool> {
    let mut first = 1;
    while let Some(compared) = verifier.compare(first).await? {
        report.seen(compared.users, compared.copies);
        report.judged(&judge.judge(verifier, &compared.suspects).await?)?;
        if compared.is_last() {
            return Ok(true);
        }
        first = compared.through + 1;
    }
    Ok(false)
}
