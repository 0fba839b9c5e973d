//! Keyset pages: `?limit=…&cursor=…` in, `Link: <…>; rel="next"` out.

#[cfg(any(test, fuzzing))]
pub mod fuzzing;

use axum::{
    Json,
    extract::FromRequestParts,
    http::{Uri, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

use crate::{
    number,
    problem::{FieldError, Problem},
    query,
};

const DEFAULT_LIMIT: u16 = 100;
const MAX_LIMIT: u16 = 1000;

/// Which page of a list that is ordered by a positive id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// At most this many items: 1 to 1000, 100 unless asked for.
    pub limit: u16,
    /// Only items with a greater id; 0 for the first page.
    pub after: i64,
    path: String,
}

#[derive(Deserialize)]
struct Parameters {
    limit: Option<String>,
    cursor: Option<String>,
}

/// Which page of a list: the description of what [`Page`] reads.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "nothing is read of a description")]
pub struct PageParameters {
    /// Most items.
    #[param(minimum = 1, maximum = 1000, default = 100, nullable = false)]
    limit: Option<u16>,
    /// From the `Link` of an earlier page.
    #[param(
        pattern = "^a(0|[1-9a-f][0-9a-f]{0,14}|[1-7][0-9a-f]{15})$",
        nullable = false
    )]
    cursor: Option<String>,
}

impl<S: Sync> FromRequestParts<S> for Page {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::parse(&parts.uri)
    }
}

impl Page {
    fn parse(uri: &Uri) -> Result<Self, Problem> {
        query::read(uri, |Parameters { limit, cursor }| {
            let limit = match limit.as_deref().map(number::parse) {
                None => DEFAULT_LIMIT,
                Some(Some(limit @ 1..=MAX_LIMIT)) => limit,
                Some(_) => {
                    let range = format!("must be a number from 1 to {MAX_LIMIT}");
                    return Err(FieldError::in_parameter("limit", range));
                }
            };
            let after = match cursor {
                None => 0,
                Some(cursor) => decode(&cursor).ok_or_else(|| {
                    FieldError::in_parameter("cursor", "must come from the Link of an earlier page")
                })?,
            };
            Ok(Self {
                limit,
                after,
                path: uri.path().to_owned(),
            })
        })
    }

    /// The list as a plain array, with a `Link` to the next page if this one is full.
    pub fn respond<T: Serialize>(&self, items: &[T], id: impl Fn(&T) -> i64) -> Response {
        let next = items
            .last()
            .filter(|_| items.len() == usize::from(self.limit));
        self.respond_up_to(items, next.map(id))
    }

    /// The same, with a `Link` to what is behind the id `next`.
    pub fn respond_up_to<T: Serialize>(&self, items: &[T], next: Option<i64>) -> Response {
        let link = next.map(|last| {
            let cursor = encode(last);
            let target = format!("{}?limit={}&cursor={cursor}", self.path, self.limit);
            [(header::LINK, format!("<{target}>; rel=\"next\""))]
        });
        (link, Json(items)).into_response()
    }
}

/// Opaque to clients, so that what is in it can change.
fn encode(id: i64) -> String {
    format!("a{id:x}")
}

fn decode(cursor: &str) -> Option<i64> {
    let id = i64::from_str_radix(cursor.strip_prefix('a')?, 16).ok()?;
    (id >= 0 && encode(id) == cursor).then_some(id)
}

#[cfg(test)]
mod tests {
    use axum::http::header;

    use super::Page;

    fn parse(uri: &str) -> Option<(u16, i64)> {
        let page = Page::parse(&uri.parse().expect("a URI")).ok()?;
        Some((page.limit, page.after))
    }

    #[test]
    fn a_page_is_bounded() {
        assert_eq!(parse("/users"), Some((100, 0)));
        assert_eq!(parse("/users?limit=1000"), Some((1000, 0)));
        for bad in ["0", "1001", "-1", "%2B5", "ten", "", "99999999999"] {
            assert_eq!(parse(&format!("/users?limit={bad}")), None, "{bad}");
        }
    }

    #[test]
    fn the_link_of_a_full_page_leads_behind_its_last_item() {
        let page = Page::parse(&"/users?limit=2".parse().expect("a URI")).expect("a page");
        let response = page.respond(&[7, 300], |id| *id);
        let link = response.headers()[header::LINK].to_str().expect("text");
        let target = link
            .strip_prefix('<')
            .and_then(|link| link.strip_suffix(">; rel=\"next\""))
            .expect("one link");
        assert_eq!(parse(target), Some((2, 300)));
        assert!(
            !page
                .respond(&[7], |id| *id)
                .headers()
                .contains_key(header::LINK)
        );
    }

    #[test]
    fn a_cursor_that_is_none_of_ours_is_refused() {
        for bad in [
            "",
            "a",
            "12",
            "a-1",
            "a%2B1",
            "a01",
            "aF",
            "azz",
            "affffffffffffffff",
        ] {
            assert_eq!(parse(&format!("/users?cursor={bad}")), None, "{bad}");
        }
    }
}
