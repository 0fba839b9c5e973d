//! MongoDB's change stream on the copy.

use std::time::Duration;

use anyhow::anyhow;
use mongodb::{
    Collection,
    bson::{RawDocumentBuf, doc},
    change_stream::ChangeStream,
    error::{Error, ErrorKind},
    options::FullDocumentType,
};
use serde::Deserialize;
use tokio::time::timeout;

use super::Token;
use crate::{
    mongo::{self, Failure},
    projection::StoredUser,
};

/// MongoDB's label on an error after which a change stream can go on.
const RESUMABLE: &str = "ResumableChangeStreamError";
const OPEN_DEADLINE: Duration = Duration::from_secs(5);
/// MongoDB answers within its `await_time`, changes or not; who does not is silent.
const MAX_SILENCE: Duration = Duration::from_secs(5);

/// One user as the copy has it after a change; after several in a row, maybe as after the last.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) token: Token,
    pub(crate) user_id: i64,
    pub(crate) version: i64,
    pub(crate) deleted: bool,
    /// What readers may see of it, in JSON.
    pub(crate) body: String,
}

/// Why nothing more comes from a change stream.
#[derive(Debug)]
pub(super) struct Broken {
    /// MongoDB can't go on from where it was.
    pub(super) is_lost: bool,
    pub(super) error: anyhow::Error,
}

#[derive(Debug)]
pub(super) struct Changes(ChangeStream<Event>);

#[derive(Debug, Deserialize)]
struct Event {
    #[serde(rename = "_id")]
    token: Token,
    #[serde(rename = "fullDocument")]
    document: Option<RawDocumentBuf>,
}

impl Changes {
    /// Behind `after`, or from now on. MongoDB waits for `await_time` before it answers that there
    /// are no changes.
    pub(super) async fn open(
        copy: &Collection<RawDocumentBuf>,
        after: Option<&Token>,
        await_time: Duration,
    ) -> Result<Self, Broken> {
        if let Some(token) = after {
            refuse_future(copy, token).await?;
        }
        let after = after.map(Token::to_resume_token).transpose()?;
        let copy = copy.clone();
        let opened = mongo::call(OPEN_DEADLINE, async move {
            let pipeline = [
                // Not the removal of tombstones: readers have seen those users go.
                doc! { "$match": { "operationType": { "$in": ["insert", "update", "replace"] } } },
                // The driver asks for what is beside the document.
                doc! { "$project": { "operationType": 1, "ns": 1, "fullDocument": 1 } },
            ];
            copy.watch()
                .pipeline(pipeline)
                .full_document(FullDocumentType::UpdateLookup)
                .resume_after(after)
                .max_await_time(await_time)
                .await
        });
        Ok(Self(opened.await?.with_type()))
    }

    /// Up to where all changes have been seen.
    pub(super) fn position(&self) -> Option<Token> {
        Token::from_resume_token(&self.0.resume_token()?)
    }

    /// `None` if none comes within the `await_time`. Whoever drops it while it waits gives up the
    /// whole change stream.
    pub(super) async fn next_if_any(&mut self) -> Result<Option<Change>, Broken> {
        let answer = timeout(MAX_SILENCE, self.0.next_if_any()).await;
        let event = answer.map_err(|_| Failure::Late(MAX_SILENCE))??;
        if event.is_none() && !self.0.is_alive() {
            return Err(Broken::ended());
        }
        Ok(event.and_then(read))
    }
}

/// A token that MongoDB has not come to yet: of another server, or of what it had before it was
/// restored from a backup.
async fn refuse_future(copy: &Collection<RawDocumentBuf>, token: &Token) -> Result<(), Broken> {
    let database = copy.client().database("admin");
    let ping = async move { database.run_command(doc! { "ping": 1 }).await };
    let reply = mongo::call(OPEN_DEADLINE, ping).await?;
    match reply.get_timestamp("operationTime") {
        Ok(now) if token.is_after(now) => Err(anyhow!("the place is in the future").into()),
        _ => Ok(()),
    }
}

fn read(event: Event) -> Option<Change> {
    // No document: it has been removed since.
    let document = event.document?;
    let user = StoredUser::read(&document);
    let read = user.map_err(anyhow::Error::from).and_then(|user| {
        let (deleted, body) = match &user {
            StoredUser::Living(notification) => (false, serde_json::to_string(notification)?),
            StoredUser::Deleted(tombstone) => (true, serde_json::to_string(tombstone)?),
        };
        Ok(Change {
            token: event.token,
            user_id: user.user_id(),
            version: user.version(),
            deleted,
            body,
        })
    });
    read.inspect_err(|error| tracing::warn!(%error, "followers are not told of a change"))
        .ok()
}

impl Broken {
    /// The primary has had more for a while.
    pub(super) fn behind() -> Self {
        Self {
            is_lost: false,
            error: anyhow!("the member of MongoDB that is followed is behind the primary"),
        }
    }

    /// Whoever was there has to start over.
    pub(super) fn lost(self) -> Self {
        Self {
            is_lost: true,
            ..self
        }
    }

    /// The collection was dropped or renamed.
    fn ended() -> Self {
        Self {
            is_lost: true,
            error: anyhow!("the change stream has ended"),
        }
    }
}

impl From<anyhow::Error> for Broken {
    fn from(error: anyhow::Error) -> Self {
        Self {
            is_lost: true,
            error,
        }
    }
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Driver(error) => error.into(),
            failure => Self {
                is_lost: false,
                error: failure.into(),
            },
        }
    }
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self {
            is_lost: is_lost(&error),
            error: error.into(),
        }
    }
}

/// Whether MongoDB refused to go on from the token. It has many ways to say so, down to not being
/// able to read one that was made up; what says that the server is busy or on its way out is known.
fn is_lost(error: &Error) -> bool {
    /// Unreachable, timed out, shut down, stepped down, not the primary, cursor not found.
    const ABOUT_THE_SERVER: [i32; 19] = [
        6, 7, 43, 50, 63, 89, 91, 133, 150, 189, 202, 234, 262, 9001, 10107, 11600, 11602, 13435,
        13436,
    ];
    match error.kind.as_ref() {
        ErrorKind::Command(_) if error.contains_label(RESUMABLE) => false,
        ErrorKind::Command(error) => !ABOUT_THE_SERVER.contains(&error.code),
        _ => false,
    }
}
