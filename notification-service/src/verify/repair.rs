//! Asking the user service to publish the differing users again.

use serde::Serialize;

use super::{
    compare::{Difference, Suspect},
    side::Side,
};

/// Users that one request may name.
const BATCH: usize = 1000;

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

/// Has the users published above what the copy has of them; they are suspects from now on.
pub(super) async fn republish(
    users: &Side,
    differences: &[Difference],
) -> anyhow::Result<Vec<Suspect>> {
    for batch in differences.chunks(BATCH) {
        let differing = batch.iter().map(|difference| Differing {
            id: difference.user_id,
            above: difference.above,
        });
        let request = Request {
            users: differing.collect(),
        };
        users.post("/users/republish", &request).await?;
    }
    let suspects = differences.iter().map(|it| Suspect::new(it.user_id, None));
    Ok(suspects.collect())
}
