//! Following every change, from now on or from where a client was.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::{Change, Listener, Live, Signal, Token, catch_up::Interrupted};

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
    /// Up to here it knows all, with what is found.
    last: Token,
    /// What it missed and has not been told yet.
    found: VecDeque<Change>,
    /// The shared change stream; `None` while it has to catch up.
    shared: Option<Receiver<Signal>>,
}

impl Live {
    /// Follows from now on. The first item says where that is.
    ///
    /// # Errors
    /// If MongoDB's change stream is not open in time.
    pub(crate) async fn follow_from_now(&self) -> anyhow::Result<(Item, Subscription)> {
        let listener = self.listen();
        self.position().await?;
        // In this order: what comes between the two is received, and passed over as known.
        let receiver = self.0.followers.subscribe();
        let last = self.position().await?;
        let subscription = Subscription {
            listener,
            last: last.clone(),
            found: VecDeque::new(),
            shared: Some(receiver),
        };
        Ok((Item::Ready(last), subscription))
    }

    /// Follows from `last` on; with a [`Item::Reset`] first if MongoDB no longer knows the place,
    /// or does not know it yet.
    ///
    /// # Errors
    /// If MongoDB's change stream is not open in time, or too many clients catch up.
    pub(crate) async fn follow_from(&self, last: Token) -> anyhow::Result<(Item, Subscription)> {
        let mut subscription = Subscription {
            listener: self.listen(),
            last: last.clone(),
            found: VecDeque::new(),
            shared: None,
        };
        match subscription.catch_up().await {
            Ok(()) => Ok((Item::Ready(last), subscription)),
            Err(Interrupted::Lost) => self.follow_anew().await,
            Err(Interrupted::Failed(error)) => Err(error),
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
}

impl Subscription {
    /// Waits for the next item; `None` once MongoDB can't be followed for now: the client is to
    /// come again, with its last place.
    pub(crate) async fn next(&mut self) -> Option<Item> {
        loop {
            if let Some(change) = self.found.pop_front() {
                return Some(Item::Changed(Arc::new(change)));
            }
            let Some(shared) = &mut self.shared else {
                match self.catch_up().await {
                    Ok(()) => continue,
                    Err(Interrupted::Lost) => return self.start_over().await,
                    Err(Interrupted::Failed(error)) => {
                        let error = format!("{error:#}");
                        tracing::debug!(error, "a client's catching up was cut");
                        return None;
                    }
                }
            };
            match shared.recv().await {
                Ok(Signal::Changed(change)) if change.token <= self.last => {}
                Ok(Signal::Changed(change)) => {
                    self.last = change.token.clone();
                    return Some(Item::Changed(change));
                }
                Ok(Signal::Gap) | Err(RecvError::Lagged(_)) => return self.start_over().await,
                Err(RecvError::Closed) => return None,
            }
        }
    }

    async fn catch_up(&mut self) -> Result<(), Interrupted> {
        let found = self.listener.0.catch_up(self.last.clone()).await?;
        self.last = found.last;
        self.found = found.changes;
        self.shared = found.shared;
        Ok(())
    }

    async fn start_over(&mut self) -> Option<Item> {
        let (item, subscription) = self.listener.0.follow_anew().await.ok()?;
        *self = subscription;
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use mongodb::Client;
    use tokio_util::sync::CancellationToken;

    use super::{Change, Item, Live, Subscription, Token};

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
            found: VecDeque::new(),
            shared: Some(live.0.followers.subscribe()),
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
