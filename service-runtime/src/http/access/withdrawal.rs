//! A token that is withdrawn ends what was begun with it: a body that is still being sent, and an
//! answer that is still being made. Each route has this, whatever it streams.

use std::{sync::Arc, task::Poll, time::Duration};

use axum::{
    body::{Body, HttpBody},
    extract::Request,
    middleware::Next,
    response::Response,
};
use futures::{FutureExt, StreamExt, stream};
use secrecy::{ExposeSecret, SecretString};
use tokio::time;

use super::{
    Access,
    tokens::{Scope, Verdict},
};

/// How long the answer to a change may go on, so that it can say how far the change came.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// A token that was accepted, and what for.
#[derive(Clone)]
pub(super) struct Grant {
    pub(super) access: Arc<Access>,
    pub(super) token: SecretString,
    pub(super) scope: Scope,
}

impl Grant {
    /// Answers a request that the token has let in.
    pub(super) async fn answer(self, request: Request, next: Next) -> Response {
        let request = if request.body().is_end_stream() {
            request
        } else {
            let withdrawn = self.clone().withdrawn();
            request.map(|body| until(withdrawn, body))
        };
        let response = next.run(request).await;
        // An answer of a known size is there whole.
        if response.body().size_hint().exact().is_some() {
            return response;
        }
        response.map(|body| until(self.answer_is_over(), body))
    }

    /// Waits until the token is withdrawn, or lacks the scope.
    async fn withdrawn(self) {
        let mut changed = self.access.changed.subscribe();
        let is_granted =
            || self.access.judge(self.token.expose_secret(), self.scope) == Verdict::Granted;
        // No error: the grant has the sender.
        while is_granted() && changed.changed().await.is_ok() {}
    }

    async fn answer_is_over(self) {
        let patience = match self.scope {
            Scope::Read => Duration::ZERO,
            Scope::Write | Scope::Repair => LAST_WORDS,
        };
        self.withdrawn().await;
        time::sleep(patience).await;
    }
}

/// The body, which fails once it is over, so that it does not look whole. Whoever reads on after the
/// error gets the rest, which can only be discarded: a client that is still sending would else see its
/// connection break instead of the answer.
fn until(over: impl Future<Output = ()> + Send + 'static, body: Body) -> Body {
    let mut over = Box::pin(over.fuse());
    let mut chunks = body.into_data_stream();
    Body::from_stream(stream::poll_fn(move |context| {
        // First, since a client that sends without a pause always has a next chunk.
        if over.poll_unpin(context).is_ready() {
            let error = axum::Error::new("the token was withdrawn");
            return Poll::Ready(Some(Err(error)));
        }
        chunks.poll_next_unpin(context)
    }))
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashSet, convert::Infallible, future::ready, sync::Arc, time::Duration,
    };

    use axum::{
        Router,
        body::{Body, Bytes},
        http::{Method, Request, header},
        middleware,
        routing::any,
    };
    use futures::{StreamExt, stream};
    use tokio::time::Instant;
    use tower::ServiceExt;

    use super::{LAST_WORDS, until};
    use crate::http::{
        ClientAddress, HttpSettings,
        access::{self, Access, tokens::Tokens},
    };

    fn one_token() -> Arc<Access> {
        let settings = HttpSettings {
            tokens: Some("write writer-writer-writer".into()),
            ..HttpSettings::default()
        };
        let access = Access::from_settings(&settings, HashSet::new()).expect("valid tokens");
        access.expect("some tokens")
    }

    fn request(method: Method) -> Request<Body> {
        let client = ClientAddress::of([192, 0, 2, 1].into());
        Request::builder()
            .method(method)
            .header(header::AUTHORIZATION, "Bearer writer-writer-writer")
            .extension(client)
            .body(Body::empty())
            .expect("a request")
    }

    async fn endless() -> Body {
        Body::from_stream(stream::pending::<Result<Bytes, Infallible>>())
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_ends_with_its_token_and_that_to_a_change_a_little_later() {
        for (method, patience) in [(Method::GET, Duration::ZERO), (Method::POST, LAST_WORDS)] {
            let access = one_token();
            let check = middleware::from_fn_with_state(Arc::clone(&access), access::check);
            let routes = Router::new().route("/", any(endless)).layer(check);
            let answer = routes.oneshot(request(method)).await.expect("an answer");
            assert_eq!(answer.status(), 200);

            access.tokens.store(Arc::new(Tokens::default()));
            access.changed.send_replace(());
            let withdrawn = Instant::now();
            let chunk = answer.into_body().into_data_stream().next().await;
            chunk.expect("no regular end").expect_err("it breaks off");
            let lasted = withdrawn.elapsed();
            let expected = patience..patience + Duration::from_secs(1);
            assert!(expected.contains(&lasted), "{lasted:?}");
        }
    }

    #[tokio::test]
    async fn a_body_breaks_off_once_and_its_rest_can_be_discarded() {
        let mut chunks = until(ready(()), Body::from("the rest")).into_data_stream();
        let first = chunks.next().await.expect("no regular end");
        first.expect_err("it breaks off");
        let rest = chunks.next().await.expect("no regular end");
        assert_eq!(rest.expect("bytes"), "the rest");
        assert!(chunks.next().await.is_none());
    }
}
