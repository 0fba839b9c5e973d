//! Asking the user service to publish the differing users again.

use anyhow::ensure;
use reqwest::StatusCode;
use serde::{Deserialize, Serialize};

use super::{
    api_client::ApiClient,
    compare::{Difference, Suspect},
};

const PATH: &str = "/users/republish";
/// Users that one request may name.
const BATCH: usize = 1000;
/// With more users refused than this the fault is not theirs.
const MAX_REFUSED: usize = 100;

#[derive(Serialize)]
struct Request {
    users: Vec<Differing>,
}

#[derive(Serialize)]
struct Differing {
    id: i64,
    /// The copy takes only what is above its own version.
    above: i64,
}

#[derive(Deserialize)]
struct Answer {
    /// Earlier releases don't say it.
    #[serde(default)]
    left_alone: LeftAlone,
}

/// Users who are not there, and of whom no deletion was published.
#[derive(Default, Deserialize)]
struct LeftAlone {
    /// Somebody may be creating them.
    maybe_in_creation: u64,
    /// Their ids are far beyond those given out.
    out_of_reach: u64,
}

/// Has the users published above what the copy has of them; they are suspects from now on.
///
/// A request that is refused is halved until it is known whose fault it is, so that one user does
/// not keep others from being repaired.
pub(super) async fn republish(
    users: &ApiClient,
    differences: &[Difference],
) -> anyhow::Result<Vec<Suspect>> {
    let mut open: Vec<_> = differences.chunks(BATCH).rev().collect();
    let mut refused = 0;
    let mut left_alone = LeftAlone::default();
    while let Some(batch) = open.pop() {
        let response = users.post(PATH, &request(batch)).await?;
        let status = response.status();
        if status.is_success() {
            let answer: Answer = users.read(response).await?;
            left_alone.maybe_in_creation += answer.left_alone.maybe_in_creation;
            left_alone.out_of_reach += answer.left_alone.out_of_reach;
            continue;
        }
        ensure!(depends_on_users(status), "{PATH} answered {status}");
        if let [difference] = batch {
            let (user_id, status) = (difference.user_id, status.as_u16());
            tracing::warn!(user_id, status, "a user was not published again");
            refused += 1;
            ensure!(refused <= MAX_REFUSED, "{PATH} refuses every user");
        } else {
            let (first, second) = batch.split_at(batch.len() / 2);
            open.extend([second, first]);
        }
    }
    let LeftAlone {
        maybe_in_creation,
        out_of_reach,
    } = left_alone;
    if maybe_in_creation + out_of_reach > 0 {
        tracing::warn!(
            maybe_in_creation,
            out_of_reach,
            "users who are not there were not published as deleted"
        );
    }
    let suspects = differences.iter().map(|it| Suspect::new(it.user_id, None));
    Ok(suspects.collect())
}

fn request(batch: &[Difference]) -> Request {
    let differing = batch.iter().map(|difference| Differing {
        id: difference.user_id,
        above: difference.above,
    });
    Request {
        users: differing.collect(),
    }
}

/// A number that is not accepted, a fault in one user's row, a row that somebody holds locked.
fn depends_on_users(status: StatusCode) -> bool {
    [
        StatusCode::UNPROCESSABLE_ENTITY,
        StatusCode::INTERNAL_SERVER_ERROR,
        StatusCode::SERVICE_UNAVAILABLE,
    ]
    .contains(&status)
}
