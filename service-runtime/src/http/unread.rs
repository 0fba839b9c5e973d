//! Answers that clients have not read yet: how much memory they may hold.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use hyper::body::{Frame, SizeHint};

use super::{ClientAddress, ClientPermit, PerClientLimit};
use crate::problem::Problem;

/// Smaller answers are bounded well enough by the number of connections. Larger ones are handed to
/// the connection in pieces of this size, as it can write them.
const PIECE_BYTES: usize = 16 * 1024;

/// Counts the bytes of large answers until their client has read them. An answer for which there is
/// no room is replaced by the reason.
pub(super) async fn bound(
    State(limit): State<PerClientLimit>,
    client: ClientAddress,
    request: Request,
    next: Next,
) -> Response {
    let response = next.run(request).await;
    let size = response.body().size_hint().exact().unwrap_or_default();
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if size <= PIECE_BYTES {
        return response;
    }
    match limit.try_acquire_many(client, size) {
        Ok(permit) => response.map(|whole| {
            Body::new(Pieces {
                whole,
                rest: Bytes::new(),
                _permit: permit,
            })
        }),
        Err(reached) => {
            tracing::debug!(%reached, size_bytes = size, "a large answer was not sent");
            Problem::from(reached).into_response()
        }
    }
}

/// A body in pieces. They are copies: slices would keep the whole alive until the last is written.
struct Pieces {
    whole: Body,
    rest: Bytes,
    _permit: ClientPermit,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        if this.rest.is_empty() {
            let frame = match ready!(Pin::new(&mut this.whole).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                end => return Poll::Ready(end),
            };
            match frame.into_data() {
                Ok(data) => this.rest = data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        let length = this.rest.len().min(PIECE_BYTES);
        let piece = this.rest.split_to(length);
        Poll::Ready(Some(Ok(Frame::data(Bytes::copy_from_slice(&piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.whole.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let whole = self.whole.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(whole.lower() + rest);
        if let Some(upper) = whole.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, Bytes, HttpBody};
    use futures::StreamExt;

    use super::{ClientAddress, PIECE_BYTES, PerClientLimit, Pieces};

    #[tokio::test]
    async fn a_body_in_pieces_is_the_same_body() {
        let limit = PerClientLimit::new("bytes", 1, 1);
        let client = ClientAddress::of("192.0.2.1".parse().expect("an address"));
        let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(3 * PIECE_BYTES + 1).collect();
        let body = Body::new(Pieces {
            whole: Body::from(bytes.clone()),
            rest: Bytes::new(),
            _permit: limit.try_acquire(client).expect("the first"),
        });
        assert_eq!(body.size_hint().exact(), Some(bytes.len() as u64));
        let pieces: Vec<Bytes> = (body.into_data_stream())
            .map(|piece| piece.expect("a piece"))
            .collect()
            .await;
        assert_eq!(pieces.len(), 4);
        assert_eq!(pieces.concat(), bytes);
        limit.try_acquire(client).expect("it was given back");
    }
}
