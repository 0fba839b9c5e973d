//! Tokens that are withdrawn while requests go on.

use std::{convert::Infallible, fs, future::ready, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    http::{Method, StatusCode},
    routing::{get, post},
};
use futures::{
    StreamExt,
    channel::mpsc::{self, UnboundedSender},
    stream,
};
use reqwest::Response;
use service_runtime::http::{HttpSettings, Routes};
use tempfile::NamedTempFile;
use tokio::time;

use crate::support::{Server, send};

const WITHDRAWN: &str = "withdrawn-withdrawn";
const OTHER: &str = "other-other-other-other";
/// Far above what anything takes.
const DEADLINE: Duration = Duration::from_secs(60);

fn routes() -> Routes {
    let streaming = Router::new()
        .route("/stream", get(endless))
        .route("/echo", post(echo));
    Routes {
        streaming: streaming.into(),
        ..Routes::default()
    }
}

/// Begins, and has no end.
async fn endless() -> Body {
    let begun = stream::once(ready(Ok::<_, Infallible>("begun")));
    Body::from_stream(begun.chain(stream::pending()))
}

/// Answers what comes, and whether it broke off.
async fn echo(request: Request) -> Body {
    let chunks = request.into_body().into_data_stream();
    let broken_off = Bytes::from_static(b"broken off");
    Body::from_stream(
        chunks.map(move |chunk| Ok::<_, Infallible>(chunk.unwrap_or_else(|_| broken_off.clone()))),
    )
}

/// What comes next of an answer that goes on.
async fn next(answer: &mut Response) -> Bytes {
    let chunk = time::timeout(DEADLINE, answer.chunk()).await;
    let chunk = chunk.expect("an answer in time").expect("no break");
    chunk.expect("no end")
}

impl Server {
    /// An answer that goes on.
    async fn follow(&self, token: &str) -> Response {
        let request = self.request(Method::GET, "/stream").bearer_auth(token);
        let mut answer = send(request).await;
        assert_eq!(next(&mut answer).await, "begun");
        answer
    }

    /// A body that is being sent, and its answer.
    async fn upload(&self, token: &str) -> (UnboundedSender<Result<Bytes, Infallible>>, Response) {
        let (sender, receiver) = mpsc::unbounded();
        let begun = sender.unbounded_send(Ok(Bytes::from_static(b"begun")));
        begun.expect("a listener");
        let request = self.request(Method::POST, "/echo").bearer_auth(token);
        let body = reqwest::Body::wrap_stream(receiver);
        let mut answer = send(request.body(body)).await;
        assert_eq!(next(&mut answer).await, "begun");
        (sender, answer)
    }
}

#[tokio::test]
async fn a_token_that_is_withdrawn_ends_what_was_begun_with_it_and_nothing_else() {
    let file = NamedTempFile::new().expect("a file");
    let set = |tokens: String| fs::write(file.path(), tokens).expect("written");
    set(format!("write {WITHDRAWN}\nwrite {OTHER}\n"));
    let settings = HttpSettings {
        token_file: Some(file.path().to_owned()),
        ..HttpSettings::default()
    };
    let server = Server::with(routes(), settings).await;
    let mut stream = server.follow(WITHDRAWN).await;
    let (_sender, mut answer) = server.upload(WITHDRAWN).await;
    let _other_stream = server.follow(OTHER).await;
    let (other_sender, mut other_answer) = server.upload(OTHER).await;

    // It may read still: what it sends ends, and the client hears so.
    set(format!("read {WITHDRAWN}\nwrite {OTHER}\n"));
    assert_eq!(next(&mut answer).await, "broken off");
    let again = server.follow(WITHDRAWN).await;
    drop(again);

    set(format!("write {OTHER}\n"));
    let end = time::timeout(DEADLINE, stream.chunk()).await;
    end.expect("an end in time")
        .expect_err("what broke off does not look whole");
    let refused = server
        .request(Method::GET, "/stream")
        .bearer_auth(WITHDRAWN);
    assert_eq!(send(refused).await.status(), StatusCode::UNAUTHORIZED);

    let sent = other_sender.unbounded_send(Ok(Bytes::from_static(b"more")));
    sent.expect("a listener");
    assert_eq!(next(&mut other_answer).await, "more");
}
