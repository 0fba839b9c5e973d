//! What a client still sends of a request that is refused.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, BodyDataStream, Bytes, HttpBody},
    extract::Request,
    http::header,
    middleware::Next,
    response::Response,
};
use futures::StreamExt;
use hyper::body::{Frame, SizeHint};
use tokio::{sync::oneshot, time};

const MAX_DISCARDED_BYTES: usize = 16 * 1024 * 1024;
const MAX_DISCARDING: Duration = Duration::from_secs(2);

/// Reads some more of what a refused client is still sending before it is answered. Else the connection is
/// closed with bytes in it that nobody has read: the client, which may send all before it reads, would see
/// it break instead of the answer.
pub(super) async fn discard_unread(request: Request, next: Next) -> Response {
    // A client that waits to be told to continue has not sent anything.
    if request.body().is_end_stream() || request.headers().contains_key(header::EXPECT) {
        return next.run(request).await;
    }
    let (sender, mut unread) = oneshot::channel();
    let given_back = |body| {
        Body::new(GivenBack {
            body,
            to: Some(sender),
        })
    };
    let response = next.run(request.map(given_back)).await;
    let is_refused = response.status().is_client_error() || response.status().is_server_error();
    if is_refused && let Ok(body) = unread.try_recv() {
        discard(&mut body.into_data_stream()).await;
    }
    response
}

/// Reads at most 16 MiB more of a refused body, for at most two seconds.
pub async fn discard(body: &mut BodyDataStream) {
    let discarding = async {
        let mut bytes = 0;
        while let Some(Ok(chunk)) = body.next().await {
            bytes += chunk.len();
            if bytes > MAX_DISCARDED_BYTES {
                break;
            }
        }
    };
    if time::timeout(MAX_DISCARDING, discarding).await.is_err() {
        tracing::debug!("the body of a refused request is still being sent");
    }
}

/// A body whose rest comes back when it is dropped.
struct GivenBack {
    body: Body,
    to: Option<oneshot::Sender<Body>>,
}

impl Drop for GivenBack {
    fn drop(&mut self) {
        if let Some(to) = self.to.take().filter(|_| !self.body.is_end_stream()) {
            // Nobody wants it any more if the client has hung up.
            let _ = to.send(std::mem::take(&mut self.body));
        }
    }
}

impl HttpBody for GivenBack {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
