//! Asking the user service to publish the differing users again.

use anyhow::ensure;
use reqwest::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::time::{Duration, Instant};

use super::{
    api_client::Refused,
    compare::{Difference, Suspect, Verifier},
};

const PATH: &str = "/users/republish";
/// Users that one request may name.
const BATCH: usize = 1000;
/// With more users refused than this the fault is not theirs.
const MAX_REFUSED: usize = 100;
/// No request begins later than this: those who are left differ in the next attempt as well.
const MAX_TIME: Duration = Duration::from_mins(2);

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
/// # Errors
/// If the user service does not answer, refuses many users, or has not taken all within two minutes.
pub(super) async fn republish(
    verifier: &Verifier,
    differences: &[Difference],
) -> anyhow::Result<Vec<Suspect>> {
    let end = Instant::now() + MAX_TIME;
    let LeftAlone {
        maybe_in_creation,
        out_of_reach,
    } = publish(verifier, differences, end).await?;
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

/// A request that is refused is halved until it is known whose fault it is, so that one user does not keep
/// others from being repaired.
async fn publish(
    Verifier { users, pace, .. }: &Verifier,
    differences: &[Difference],
    end: Instant,
) -> anyhow::Result<LeftAlone> {
    let mut open: Vec<_> = differences.chunks(BATCH).rev().collect();
    let mut refused = 0;
    let mut left_alone = LeftAlone::default();
    while let Some(batch) = open.pop() {
        ensure!(
            Instant::now() < end,
            "{PATH} takes longer than {MAX_TIME:?}"
        );
        pace.attempt();
        let response = users.post(PATH, &request(batch)).await?;
        let status = response.status();
        if status.is_success() {
            let answer: Answer = users.read(response).await?;
            left_alone.maybe_in_creation += answer.left_alone.maybe_in_creation;
            left_alone.out_of_reach += answer.left_alone.out_of_reach;
            continue;
        }
        ensure!(depends_on_users(status), Refused::new(PATH, status));
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
    Ok(left_alone)
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

/// A number that is not accepted, a fault in one user's row, a row that somebody has locked.
fn depends_on_users(status: StatusCode) -> bool {
    [
        StatusCode::UNPROCESSABLE_ENTITY,
        StatusCode::INTERNAL_SERVER_ERROR,
        StatusCode::SERVICE_UNAVAILABLE,
    ]
    .contains(&status)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::{Json, Router, http::StatusCode};
    use serde_json::Value;
    use service_runtime::progress::Progress;
    use tokio::{
        net::TcpListener,
        time::{Duration, Instant},
    };

    use super::publish;
    use crate::{
        notifications::Pace,
        verify::{
            api_client::ApiClient,
            compare::{Difference, Kind, Verifier},
            copies::Copies,
        },
    };

    /// A user service that gives all requests the same answer.
    #[derive(Clone)]
    struct Users {
        answer: StatusCode,
        progress: Progress,
        /// Of each request, how many users it named, and whether an attempt was told before it.
        asked: Arc<Mutex<Vec<(usize, bool)>>>,
    }

    impl Users {
        async fn serve(answer: StatusCode) -> (Self, Verifier) {
            let progress = Progress::new("test");
            progress.idle();
            let users = Self {
                answer,
                progress: progress.clone(),
                asked: Arc::default(),
            };
            let it = users.clone();
            let routes = Router::new().fallback(move |Json(request): Json<Value>| {
                let it = it.clone();
                async move { it.take(&request).await }
            });
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let url = format!("http://{}", listener.local_addr().expect("an address"));
            tokio::spawn(async { axum::serve(listener, routes).await });
            let client = ApiClient::users(&url, None).expect("a client");
            let verifier = Verifier {
                users: client.clone(),
                copies: Copies::Api(client),
                pace: Pace::unlimited(progress),
                concurrency: 1,
            };
            (users, verifier)
        }

        async fn take(&self, request: &Value) -> StatusCode {
            let users = request["users"].as_array().map_or(0, Vec::len);
            // It passes while the task is idle, which an attempt ends.
            let is_idle = self.progress.check(Duration::ZERO).run().await.is_ok();
            self.progress.idle();
            let mut asked = self.asked.lock().expect("no panic");
            asked.push((users, !is_idle));
            self.answer
        }

        fn asked(&self) -> Vec<(usize, bool)> {
            self.asked.lock().expect("no panic").clone()
        }
    }

    fn differences(users: i64) -> Vec<Difference> {
        let missing = |user_id| Difference {
            difference: Kind::Missing,
            user_id,
            user_version: Some(1),
            copy_version: None,
            above: 0,
        };
        (1..=users).map(missing).collect()
    }

    fn in_a_minute() -> Instant {
        Instant::now() + Duration::from_mins(1)
    }

    #[tokio::test]
    async fn an_attempt_is_told_before_each_request() {
        let (users, verifier) = Users::serve(StatusCode::UNPROCESSABLE_ENTITY).await;
        let outcome = publish(&verifier, &differences(3), in_a_minute()).await;
        assert!(outcome.is_ok());
        let halved = [3_usize, 1, 2, 1, 1].map(|users| (users, true));
        assert_eq!(users.asked(), halved);
    }

    #[tokio::test]
    async fn no_request_begins_after_the_end() {
        let (users, verifier) = Users::serve(StatusCode::UNPROCESSABLE_ENTITY).await;
        let outcome = publish(&verifier, &differences(3), Instant::now()).await;
        assert!(outcome.is_err());
        assert_eq!(users.asked(), []);
    }
}
