//! Changes of the copy as they happen, whichever service applied them.
//!
//! One change stream per process feeds all that listen: requests that wait for a version, and
//! clients that follow every change. It is open only while somebody listens, so that it costs
//! MongoDB nothing when nobody does.

mod catch_up;
mod changes;
mod pace;
mod subscription;
mod token;
mod waiters;

use std::{pin::pin, sync::Arc, time::Duration};

use mongodb::{Collection, bson::RawDocumentBuf};
use service_runtime::{progress::Progress, sessions::Sessions};
use tokio::{
    sync::{Semaphore, broadcast, watch},
    time,
};
use tokio_util::sync::CancellationToken;

use self::{
    changes::{Broken, Changes},
    waiters::Waiters,
};

pub(crate) use self::{
    changes::Change,
    subscription::{Item, Subscription},
    token::Token,
    waiters::Waiter,
};

/// How many changes a follower may be behind before it has to start over.
const MAX_BEHIND: usize = 1_024;
/// How long the change stream stays open after the last listener has gone.
const IDLE: Duration = Duration::from_secs(30);
/// How long MongoDB holds a question for changes before it says that there are none.
const AWAIT_TIME: Duration = Duration::from_secs(1);
/// Change streams at once: the shared one, and those of clients that catch up.
pub(crate) const MAX_STREAMS: u32 = 1 + catch_up::MAX_CATCH_UPS;

#[derive(Debug, Clone)]
pub(crate) struct Live(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    copy: Collection<RawDocumentBuf>,
    /// Where the change stream is; `None` while it is not open.
    position: watch::Sender<Option<Token>>,
    followers: broadcast::Sender<Signal>,
    waiters: Waiters,
    listeners: watch::Sender<usize>,
    catch_ups: Arc<Semaphore>,
    shutdown: CancellationToken,
}

#[derive(Debug, Clone)]
enum Signal {
    Changed(Arc<Change>),
    /// Changes may have been missed.
    Gap,
}

/// Keeps the change stream open while it lives.
#[derive(Debug)]
struct Listener(Live);

impl Live {
    pub(crate) fn new(copy: Collection<RawDocumentBuf>, shutdown: CancellationToken) -> Self {
        Self(Arc::new(Shared {
            copy,
            position: watch::Sender::new(None),
            followers: broadcast::Sender::new(MAX_BEHIND),
            waiters: Waiters::default(),
            listeners: watch::Sender::new(0),
            catch_ups: catch_up::semaphore(),
            shutdown,
        }))
    }

    /// Learns of each change of the user from now on. Whoever reads after this misses none.
    pub(crate) fn waiter(&self, user_id: i64) -> Waiter {
        Waiter::new(self.listen(), user_id)
    }

    /// Cancelled when the process is to stop.
    pub(crate) fn shutdown(&self) -> &CancellationToken {
        &self.0.shutdown
    }

    /// Feeds the listeners until shutdown.
    ///
    /// A change stream that breaks is resumed where it was. If MongoDB no longer knows that place,
    /// a new one begins, and everybody is told to look again.
    pub(crate) async fn run(self, progress: Progress) -> anyhow::Result<()> {
        let mut token = None;
        let mut sessions = Sessions::new("change stream", &progress, &self.0.shutdown);
        while self.is_wanted(&progress).await && sessions.begin().await {
            let followed = self.follow(&mut token, &mut sessions, &progress).await;
            self.closed(followed, &mut token, &mut sessions);
        }
        Ok(())
    }

    /// Decides where the next change stream begins: where this one was, unless nobody listens or
    /// MongoDB no longer knows that place.
    fn closed(
        &self,
        followed: Result<(), Broken>,
        token: &mut Option<Token>,
        sessions: &mut Sessions,
    ) {
        // Before the look at the listeners: who comes after it is not told this place.
        self.0.position.send_replace(None);
        match followed {
            // Who came at the last moment may have been told this place.
            Ok(()) if *self.0.listeners.borrow() > 0 => {}
            Ok(()) => *token = None,
            Err(broken) => {
                if broken.is_lost && token.take().is_some() {
                    self.announce_gap();
                }
                sessions.failed(&broken.error);
            }
        }
    }

    /// Waits for a listener; false if told to stop first.
    async fn is_wanted(&self, progress: &Progress) -> bool {
        progress.idle();
        let mut listeners = self.0.listeners.subscribe();
        let wanted = listeners.wait_for(|count| *count > 0);
        let wanted = self.0.shutdown.run_until_cancelled(wanted);
        wanted.await.is_some()
    }

    /// Until shutdown, or until nobody has listened for a while.
    async fn follow(
        &self,
        token: &mut Option<Token>,
        sessions: &mut Sessions,
        progress: &Progress,
    ) -> Result<(), Broken> {
        let opened = Changes::open(&self.0.copy, token.as_ref(), AWAIT_TIME);
        let Some(changes) = self.0.shutdown.run_until_cancelled(opened).await else {
            return Ok(());
        };
        let mut changes = changes?;
        *token = changes.position().or(token.take());
        self.0.position.send_replace(token.clone());
        // What happened while it was closed is for each to find out.
        self.0.waiters.wake_all();

        let mut idle = pin!(self.idle());
        let passed = watch::Sender::new(token.clone());
        let mut fallen_behind = pin!(pace::fallen_behind(&self.0.copy, &passed));
        loop {
            tokio::select! {
                () = self.0.shutdown.cancelled() => return Ok(()),
                () = &mut idle => return Ok(()),
                () = &mut fallen_behind => return Err(Broken::behind()),
                change = changes.next_if_any() => {
                    let change = change?;
                    progress.attempted();
                    *token = changes.position().or(token.take());
                    if let Some(change) = change {
                        *token = Some(change.token.clone());
                        self.publish(change);
                        sessions.worked();
                    }
                    passed.send_modify(|passed| passed.clone_from(token));
                }
            }
        }
    }

    /// The position goes first: who subscribes between the two passes over the change, as one
    /// that was applied before.
    fn publish(&self, change: Change) {
        self.0.position.send_replace(Some(change.token.clone()));
        self.0.waiters.wake(change.user_id, change.version);
        // Nobody may be following; that is no error.
        let _ = self.0.followers.send(Signal::Changed(Arc::new(change)));
    }

    fn announce_gap(&self) {
        let _ = self.0.followers.send(Signal::Gap);
    }

    /// Until nobody has listened for a while.
    async fn idle(&self) {
        let mut listeners = self.0.listeners.subscribe();
        loop {
            let _ = listeners.wait_for(|count| *count == 0).await;
            let wanted = listeners.wait_for(|count| *count > 0);
            if time::timeout(IDLE, wanted).await.is_err() {
                return;
            }
        }
    }

    fn listen(&self) -> Listener {
        self.0.listeners.send_modify(|count| *count += 1);
        Listener(self.clone())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.0.listeners.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mongodb::bson::{DateTime, doc};
    use service_runtime::{progress::Progress, sessions::Sessions};
    use testkit::mongodb::Database;
    use tokio::time::timeout;
    use tokio_util::sync::CancellationToken;

    use super::{Item, Live};
    use crate::mongo;

    const LONG: Duration = Duration::from_mins(1);

    /// The last listener has gone a while ago, and the change stream is not closed yet.
    #[tokio::test]
    async fn a_follower_that_comes_at_the_last_moment_of_a_change_stream_misses_nothing() {
        let database = Database::create().await;
        let created = database.database.create_collection("copy").await;
        created.expect("a collection");
        let shutdown = CancellationToken::new();
        let copy = mongo::primary(&database.database, "copy");
        let live = Live::new(copy, shutdown.clone());
        let progress = Progress::new("test");
        let mut sessions = Sessions::new("test", &progress, &shutdown);
        let mut token = None;
        let opened = tokio::select! {
            _ = live.follow(&mut token, &mut sessions, &progress) => panic!("it goes on"),
            opened = live.follow_from_now() => opened,
        };
        let (_, mut follower) = opened.expect("a change stream");
        live.closed(Ok(()), &mut token, &mut sessions);

        let user = doc! {
            "_id": 1_i64, "user_id": 1_i64, "name": "Ada", "email": "ada@example.com",
            "updated_at": DateTime::now(), "version": 1_i64,
        };
        let inserted = database.collection("copy").insert_one(user).await;
        inserted.expect("a write");
        let told = tokio::select! {
            _ = live.follow(&mut token, &mut sessions, &progress) => panic!("it goes on"),
            told = timeout(LONG, follower.next()) => told.expect("a change in time"),
        };
        match told {
            Some(Item::Changed(change)) => assert_eq!(change.user_id, 1),
            other => panic!("not the change: {other:?}"),
        }

        drop(follower);
        live.closed(Ok(()), &mut token, &mut sessions);
        assert_eq!(token, None, "nobody is left to whom this place was told");
    }
}
