//! A feed: what a process tells all clients that follow it, as server-sent events.
//!
//! One source feeds all followers, and runs only while there are some. What it tells is serialized
//! once. A follower that is too slow misses a part and is told so (`reset`, and the last status):
//! nobody waits for it.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::response::{
    IntoResponse, Response, Sse,
    sse::{Event, KeepAlive},
};
use chrono::{SubsecRound, Utc};
use futures::{Stream, StreamExt, stream};
use serde::Serialize;
use tokio::{
    sync::{
        broadcast::{self, Receiver, error::RecvError},
        watch,
    },
    time,
};
use tokio_util::sync::CancellationToken;

use super::{ClientAddress, ClientPermit, PerClientLimit};
use crate::{problem::Problem, progress::Progress};

/// How many messages a follower may be behind.
const MAX_BEHIND: usize = 256;
/// How long a source goes on after the last follower has gone.
const IDLE: Duration = Duration::from_secs(30);
/// Shorter than what proxies take for a dead connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Clones are of the same feed.
#[derive(Debug, Clone)]
pub struct Feed(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limit: PerClientLimit,
    followers: watch::Sender<usize>,
    /// The last status, without its time.
    status: watch::Sender<Option<String>>,
    messages: broadcast::Sender<Message>,
    shutdown: CancellationToken,
}

#[derive(Debug, Clone)]
struct Message {
    event: &'static str,
    data: Arc<str>,
}

impl Feed {
    /// Its followers end at `shutdown`, so that their connections do not hold it up.
    #[must_use]
    pub fn new(limit: PerClientLimit, shutdown: CancellationToken) -> Self {
        Self(Arc::new(Shared {
            limit,
            followers: watch::Sender::new(0),
            status: watch::Sender::new(None),
            messages: broadcast::Sender::new(MAX_BEHIND),
            shutdown,
        }))
    }

    /// Answers a request with the feed: the last status, then all that is told from now on.
    pub fn follow(&self, client: ClientAddress) -> Response {
        match self.0.limit.try_acquire(client) {
            Ok(permit) => {
                let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
                let messages = self.messages(permit);
                let events = messages.map(|message| Ok::<_, Infallible>(message.into_event()));
                Sse::new(events).keep_alive(keep_alive).into_response()
            }
            Err(reached) => Problem::from(reached).into_response(),
        }
    }

    /// Subscribes before it looks at the status, so that none is missed.
    fn messages(&self, permit: ClientPermit) -> impl Stream<Item = Message> + use<> {
        let mut follower = Follower::new(self, permit);
        follower.first = self.last_status();
        let messages = stream::unfold(follower, async |mut follower| {
            Some((follower.next().await?, follower))
        });
        let stopped = self.0.shutdown.clone().cancelled_owned();
        messages.take_until(stopped)
    }

    /// As of now: clients tell by its time how far the service's clock is from theirs.
    fn last_status(&self) -> Option<Message> {
        self.0.status.borrow().as_deref().map(Message::status)
    }

    /// Waits for a follower; false if the process is to stop first.
    pub async fn is_wanted(&self, progress: &Progress) -> bool {
        progress.idle();
        let mut followers = self.0.followers.subscribe();
        let wanted = followers.wait_for(|count| *count > 0);
        let wanted = self.0.shutdown.run_until_cancelled(wanted).await;
        progress.attempted();
        wanted.is_some()
    }

    /// Waits until nobody has followed for a while, or the process is to stop.
    pub async fn unwanted(&self) {
        let mut followers = self.0.followers.subscribe();
        let idle = async {
            loop {
                let _ = followers.wait_for(|count| *count == 0).await;
                let wanted = followers.wait_for(|count| *count > 0);
                if time::timeout(IDLE, wanted).await.is_err() {
                    return;
                }
            }
        };
        self.0.shutdown.run_until_cancelled(idle).await;
    }

    /// Tells the status, with the time of telling as `at`, unless it is the same as before; followers who come
    /// later are told it first.
    ///
    /// # Panics
    /// If `status` is no JSON object.
    pub fn status(&self, status: &impl Serialize) {
        let content = json(status);
        if self.0.status.borrow().as_ref() == Some(&content) {
            return;
        }
        let message = Message::status(&content);
        // First, so that a follower who comes now may be told it twice, but never the former one alone.
        self.0.status.send_replace(Some(content));
        self.send(message);
    }

    /// What is told next is told as the first status, since the source has stopped.
    pub fn forget_status(&self) {
        self.0.status.send_replace(None);
    }

    /// Tells of `events`, and of how many more there were.
    ///
    /// # Panics
    /// If they are no JSON.
    pub fn batch(&self, event: &'static str, events: &[impl Serialize], skipped: u64) {
        #[derive(Serialize)]
        struct Batch<'a, T> {
            events: &'a [T],
            skipped: u64,
        }
        self.send(Message::new(event, &Batch { events, skipped }));
    }

    fn send(&self, message: Message) {
        // Nobody may be following; that is no error.
        let _ = self.0.messages.send(message);
    }
}

impl Message {
    fn new(event: &'static str, data: &impl Serialize) -> Self {
        Self {
            event,
            data: json(data).into(),
        }
    }

    /// With the present time as the first member of what is an object.
    fn status(content: &str) -> Self {
        let members = content.strip_prefix('{').expect("a status is an object");
        let at = json(&Utc::now().trunc_subsecs(3));
        let separator = if members == "}" { "" } else { "," };
        Self {
            event: "status",
            data: format!(r#"{{"at":{at}{separator}{members}"#).into(),
        }
    }

    fn into_event(self) -> Event {
        Event::default().event(self.event).data(&*self.data)
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("what is told is JSON")
}

/// One client's way through the messages.
struct Follower {
    feed: Feed,
    messages: Receiver<Message>,
    /// What it is told before it goes on.
    first: Option<Message>,
    _permit: ClientPermit,
}

impl Follower {
    fn new(feed: &Feed, permit: ClientPermit) -> Self {
        feed.0.followers.send_modify(|count| *count += 1);
        Self {
            feed: feed.clone(),
            messages: feed.0.messages.subscribe(),
            first: None,
            _permit: permit,
        }
    }

    async fn next(&mut self) -> Option<Message> {
        #[derive(Serialize)]
        struct Missed {
            messages: u64,
        }
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        match self.messages.recv().await {
            Ok(message) => Some(message),
            Err(RecvError::Lagged(messages)) => {
                self.first = self.feed.last_status();
                Some(Message::new("reset", &Missed { messages }))
            }
            Err(RecvError::Closed) => None,
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.feed.0.followers.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, time::Duration};

    use chrono::{DateTime, SubsecRound, Utc};
    use futures::{FutureExt, StreamExt};
    use serde_json::{Value, json};
    use tokio::{task, time};
    use tokio_util::sync::CancellationToken;

    use super::{Feed, IDLE, MAX_BEHIND, Message};
    use crate::{
        http::{ClientAddress, PerClientLimit},
        progress::Progress,
    };

    fn feed() -> Feed {
        let limit = PerClientLimit::new("followers", 2, 1);
        Feed::new(limit, CancellationToken::new())
    }

    fn client(last: u8) -> ClientAddress {
        ClientAddress::of([192, 0, 2, last].into())
    }

    fn follow(feed: &Feed, last: u8) -> impl futures::Stream<Item = Message> + use<> {
        let permit = feed.0.limit.try_acquire(client(last)).expect("a permit");
        feed.messages(permit)
    }

    /// What the follower is told at once.
    fn told(follower: impl futures::Stream<Item = Message>) -> Vec<(&'static str, String)> {
        let mut follower = pin!(follower);
        let mut told = Vec::new();
        // Tokio feigns an empty queue now and then.
        while let Some(Some(message)) = task::unconstrained(follower.next()).now_or_never() {
            told.push((message.event, message.data.to_string()));
        }
        told
    }

    #[tokio::test]
    async fn a_follower_is_told_the_last_status_first_and_none_twice() {
        let feed = feed();
        let mut early = pin!(follow(&feed, 1));
        assert!(early.next().now_or_never().is_none());
        for pending in [1, 1, 2, 2] {
            feed.status(&json!({ "pending": pending }));
        }
        feed.batch("applied", &["an event"], 3);
        let early = told(early);
        let names: Vec<_> = early.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["status", "status", "applied"]);
        assert_eq!(early[2].1, r#"{"events":["an event"],"skipped":3}"#);
        let come = Utc::now().trunc_subsecs(3);
        let late = told(follow(&feed, 2));
        assert_eq!(late.len(), 1);
        let status: Value = serde_json::from_str(&late[0].1).expect("JSON");
        assert_eq!(status["pending"], 2);
        let at: DateTime<Utc> = status["at"].as_str().expect("a time").parse().expect("one");
        assert!(
            at >= come,
            "it is as of its telling, not of its last change"
        );
    }

    #[tokio::test]
    async fn a_follower_who_does_not_read_costs_a_bound_and_is_told_what_it_missed() {
        let feed = feed();
        let slow = follow(&feed, 1);
        feed.status(&json!({ "pending": 1 }));
        for number in 0..MAX_BEHIND + 5 {
            feed.batch("applied", &[number], 0);
        }
        let told = told(slow);
        assert_eq!(told[0], ("reset", r#"{"messages":6}"#.to_owned()));
        assert_eq!(told[1].0, "status");
        assert_eq!(told.len(), 2 + MAX_BEHIND);
    }

    #[tokio::test]
    async fn each_client_and_all_together_have_a_limit_that_is_given_back() {
        let feed = feed();
        let first = feed.follow(client(1));
        assert_eq!(feed.follow(client(1)).status(), 429);
        let second = feed.follow(client(2));
        assert_eq!(feed.follow(client(3)).status(), 503);
        drop((first, second));
        assert_eq!(feed.follow(client(1)).status(), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn the_source_is_wanted_while_somebody_follows_and_a_little_longer() {
        let feed = feed();
        let progress = Progress::new("feed");
        let mut wanted = pin!(feed.is_wanted(&progress));
        assert!(wanted.as_mut().now_or_never().is_none());
        let follower = follow(&feed, 1);
        assert!(wanted.await);
        let mut unwanted = pin!(feed.unwanted());
        let waited = time::timeout(2 * IDLE, unwanted.as_mut()).await;
        waited.expect_err("somebody follows");
        drop(follower);
        let waited = time::timeout(IDLE / 2, unwanted.as_mut()).await;
        waited.expect_err("not for long");
        unwanted.await;
    }

    #[tokio::test(start_paused = true)]
    async fn at_shutdown_followers_end_and_no_source_begins() {
        let feed = feed();
        let follower = follow(&feed, 1);
        feed.0.shutdown.cancel();
        let ended = time::timeout(Duration::from_secs(1), follower.count()).await;
        assert_eq!(ended, Ok(0));
        feed.unwanted().await;
        assert!(!feed.is_wanted(&Progress::new("feed")).await);
    }
}
