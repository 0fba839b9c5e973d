//! What it means to differ.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    api_client::{ApiClient, Record},
    copies::Copies,
};
use crate::notifications::Pace;

#[derive(Debug)]
pub(crate) struct Verifier {
    pub(crate) users: ApiClient,
    pub(crate) copies: Copies,
    pub(crate) pace: Pace,
    /// Users that are looked at at once.
    pub(crate) concurrency: usize,
}

/// A user on whom the two services did not agree at first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Suspect {
    pub(super) id: i64,
    /// The version that the user had when it was first seen. A copy that has it has not been left
    /// behind, however fast the user goes on changing.
    pub(super) version: Option<i64>,
}

/// What the two services have of a user, if it is not the same.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct Difference {
    pub(crate) difference: Kind,
    pub(crate) user_id: i64,
    pub(crate) user_version: Option<i64>,
    pub(crate) copy_version: Option<i64>,
    /// The version that a repair has to exceed, a tombstone's included.
    #[serde(skip)]
    pub(super) above: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// A user that the copy does not have.
    Missing,
    /// The copy has an older version.
    Stale,
    /// The copy has a user that is not there.
    Extra,
    /// The copy has a version that the user never had.
    Ahead,
    /// The same version with other content.
    Conflict,
    /// The copy has a document that is none of a user's.
    Damaged,
}

impl Suspect {
    pub(super) fn new(id: i64, user: Option<&Record>) -> Self {
        Self {
            id,
            version: user.map(|user| user.version),
        }
    }
}

impl Verifier {
    /// How the two services differ now, if they do.
    pub(super) async fn look(&self, suspect: Suspect) -> anyhow::Result<Option<Difference>> {
        self.pace.pause(1).await;
        let mut user = self.users.find(suspect.id).await?;
        let copy = self.copies.find(suspect.id).await?;
        if copy.version() > user.version() {
            // The user may have been written between the two looks.
            user = self.users.find(suspect.id).await?;
        }
        let kind = if copy.is_damaged() {
            Some(Kind::Damaged)
        } else {
            judge(user.living(), copy.living(), suspect.version)
        };
        Ok(kind.map(|difference| Difference {
            difference,
            user_id: suspect.id,
            user_version: user.version(),
            copy_version: copy.version(),
            // An older copy takes the present version as it is.
            above: match difference {
                Kind::Stale => 0,
                Kind::Missing | Kind::Extra | Kind::Ahead | Kind::Conflict | Kind::Damaged => {
                    copy.last_version().unwrap_or(0)
                }
            },
        }))
    }
}

fn judge(user: Option<&Record>, copy: Option<&Record>, expected: Option<i64>) -> Option<Kind> {
    match (user, copy) {
        (None, None) => None,
        (Some(_), None) => Some(Kind::Missing),
        (None, Some(_)) => Some(Kind::Extra),
        (Some(user), Some(copy)) if copy.version < user.version => {
            let has_kept_up = expected.is_some_and(|expected| copy.version >= expected);
            (!has_kept_up).then_some(Kind::Stale)
        }
        (Some(user), Some(copy)) if copy.version > user.version => Some(Kind::Ahead),
        (Some(user), Some(copy)) => (user != copy).then_some(Kind::Conflict),
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, judge};
    use crate::verify::api_client::Record;

    fn version(version: i64) -> Record {
        let record = serde_json::json!({
            "id": 1, "name": "Ada", "email": "ada@example.com", "version": version,
            "updated_at": "2026-01-02T03:04:05.678Z",
        });
        serde_json::from_value(record).expect("a record")
    }

    #[test]
    fn a_copy_that_follows_a_busy_user_is_not_stale() {
        let (user, copy) = (version(9), version(7));
        assert_eq!(judge(Some(&user), Some(&copy), Some(5)), None);
        assert_eq!(judge(Some(&user), Some(&copy), Some(8)), Some(Kind::Stale));
        assert_eq!(judge(Some(&user), Some(&copy), None), Some(Kind::Stale));
    }
}
