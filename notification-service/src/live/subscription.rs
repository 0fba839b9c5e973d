//! Following every change, from now on or from where a client was.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time,
};

use super::{Change, Changes, Listener, Live, Signal, Token};

/// How long a new follower waits for the change stream to be open.
const OPEN_DEADLINE: Duration = Duration::from_secs(5);

/// What a follower is told.
#[derive(Debug)]
pub(crate) enum Item {
    /// All changes behind this place will follow.
    Ready(Token),
    /// Changes were missed: read everything again. All behind this place will follow.
    Reset(Token),
    Changed(Arc<Change>),
}

/// One client's way through the changes.
#[derive(Debug)]
pub(crate) struct Subscription {
    listener: Listener,
    /// Up to here it knows all.
    last: Token,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// What it missed, by a change stream of its own.
    CatchingUp(Box<Changes>),
    /// With all others, from the shared one.
    Following(Receiver<Signal>),
}

impl Live {
    /// Follows from now on. The first item says where that is.
    ///
    /// # Errors
    /// If MongoDB's change stream is not open in time.
    pub(crate) async fn follow_from_now(&self) -> anyhow::Result<(Item, Subscription)> {
        let listener = self.listen();
        let (last, receiver) = self.join().await?;
        let subscription = Subscription {
            listener,
            last: last.clone(),
            phase: Phase::Following(receiver),
        };
        Ok((Item::Ready(last), subscription))
    }

    /// Follows from `last` on; with a [`Item::Reset`] first if MongoDB no longer knows the place.
    ///
    /// # Errors
    /// If MongoDB's change stream is not open in time.
    pub(crate) async fn follow_from(&self, last: Token) -> anyhow::Result<(Item, Subscription)> {
        let listener = self.listen();
        match Changes::open(&self.0.copy, Some(&last)).await {
            Ok(changes) => {
                let phase = Phase::CatchingUp(Box::new(changes));
                let subscription = Subscription {
                    listener,
                    last: last.clone(),
                    phase,
                };
                Ok((Item::Ready(last), subscription))
            }
            Err(broken) if broken.is_lost => self.follow_anew().await,
            Err(broken) => Err(broken.error),
        }
    }

    /// Follows from now on, after what was before was lost.
    ///
    /// # Errors
    /// If MongoDB's change stream is not open in time.
    pub(crate) async fn follow_anew(&self) -> anyhow::Result<(Item, Subscription)> {
        let (_, subscription) = self.follow_from_now().await?;
        Ok((Item::Reset(subscription.last.clone()), subscription))
    }

    /// In this order: what comes between the two is received, and passed over as known.
    async fn join(&self) -> anyhow::Result<(Token, Receiver<Signal>)> {
        let mut position = self.0.position.subscribe();
        let open = position.wait_for(Option::is_some);
        let open = time::timeout(OPEN_DEADLINE, open).await;
        drop(open.context("the change stream is not open")??);
        let receiver = self.0.followers.subscribe();
        let now = self.0.position.borrow().clone();
        Ok((now.context("the change stream was closed")?, receiver))
    }
}

impl Subscription {
    /// Waits for the next item; `None` once MongoDB can't be followed for now: the client is to
    /// come again, with its last place.
    pub(crate) async fn next(&mut self) -> Option<Item> {
        loop {
            let step = match &mut self.phase {
                Phase::CatchingUp(changes) => match changes.next_if_any().await {
                    Ok(Some(change)) => Step::Change(Arc::new(change)),
                    Ok(None) => {
                        let position = changes.position();
                        self.last =
                            position.map_or(self.last.clone(), |it| it.max(self.last.clone()));
                        Step::Nothing
                    }
                    Err(broken) if broken.is_lost => Step::Lost,
                    Err(broken) => {
                        let error = format!("{:#}", broken.error);
                        tracing::debug!(error, "a follower's catching up was cut");
                        return None;
                    }
                },
                Phase::Following(receiver) => match receiver.recv().await {
                    Ok(Signal::Changed(change)) if change.token <= self.last => Step::Nothing,
                    Ok(Signal::Changed(change)) => Step::Change(change),
                    Ok(Signal::Gap) | Err(RecvError::Lagged(_)) => Step::Lost,
                    Err(RecvError::Closed) => return None,
                },
            };
            match step {
                Step::Change(change) => {
                    self.last = change.token.clone();
                    self.join_the_others();
                    return Some(Item::Changed(change));
                }
                Step::Nothing => self.join_the_others(),
                Step::Lost => return self.start_over().await,
            }
        }
    }

    /// Goes on with the shared change stream once all that it has passed is known.
    fn join_the_others(&mut self) {
        if matches!(self.phase, Phase::Following(_)) {
            return;
        }
        let shared = &self.listener.0.0;
        let receiver = shared.followers.subscribe();
        let passed = shared.position.borrow().clone();
        if passed.is_some_and(|passed| passed <= self.last) {
            self.phase = Phase::Following(receiver);
        }
    }

    async fn start_over(&mut self) -> Option<Item> {
        let (item, subscription) = self.listener.0.follow_anew().await.ok()?;
        *self = subscription;
        Some(item)
    }
}

enum Step {
    Change(Arc<Change>),
    Nothing,
    Lost,
}

#[cfg(test)]
mod tests {
    use mongodb::Client;
    use tokio_util::sync::CancellationToken;

    use super::{Change, Item, Live, Phase, Subscription, Token};

    fn token(text: &str) -> Token {
        Token::parse(text).expect("a token")
    }

    fn change(text: &str) -> Change {
        Change {
            token: token(text),
            user_id: 1,
            version: 1,
            deleted: false,
            body: String::new(),
        }
    }

    /// While it caught up by itself it may have come further than the shared change stream.
    #[tokio::test]
    async fn what_a_follower_knows_already_is_not_told_again() {
        let client = Client::with_uri_str("mongodb://localhost").await;
        let copy = client.expect("a URI").database("test").collection("copy");
        let live = Live::new(copy, CancellationToken::new());
        let mut subscription = Subscription {
            listener: live.listen(),
            last: token("82B0"),
            phase: Phase::Following(live.0.followers.subscribe()),
        };
        for text in ["82A0", "82B0", "82C0"] {
            live.publish(change(text));
        }
        match subscription.next().await {
            Some(Item::Changed(change)) => assert_eq!(change.token, token("82C0")),
            other => panic!("not a change: {other:?}"),
        }
    }
}
