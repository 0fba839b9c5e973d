//! Fuzzing of the parameters of a page.

use axum::http::{Uri, header};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use serde_json::Value;
use url::form_urlencoded;

use super::{DEFAULT_LIMIT, Page, encode};

/// A query is read as one place of the list, which the link to it leads to again; a cursor that no link
/// has is refused, and so is a limit that is out of range. The bytes are taken for the query, and for the
/// cursor.
///
/// # Panics
/// If it is not so.
pub fn page(bytes: &[u8]) {
    if let Ok(query) = str::from_utf8(bytes) {
        check(query);
    }
    check(&format!(
        "cursor={}",
        percent_encode(bytes, NON_ALPHANUMERIC)
    ));
}

fn check(query: &str) {
    let Ok(uri) = format!("/users?{query}").parse::<Uri>() else {
        return;
    };
    match Page::parse(&uri) {
        Ok(page) => {
            is_what_was_asked_for(&uri, &page);
            assert_eq!(Page::parse(&link_to(&page)).ok(), Some(page));
        }
        Err(problem) => {
            let problem = serde_json::to_value(problem).expect("JSON");
            let names = ["limit", "cursor", "query"].map(Value::from);
            let field = &problem["errors"][0]["parameter"];
            assert!(names.contains(field), "{problem}");
        }
    }
}

fn is_what_was_asked_for(uri: &Uri, page: &Page) {
    assert!((1..=1000).contains(&page.limit) && page.after >= 0);
    let query = uri.query().unwrap_or_default();
    let given = |name| {
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        pairs.find_map(|(key, value)| (key == name).then_some(value))
    };
    let limit = given("limit").map_or(DEFAULT_LIMIT, |it| it.parse().expect("digits"));
    assert_eq!(limit, page.limit);
    match given("cursor") {
        Some(cursor) => assert_eq!(cursor, encode(page.after), "a forged cursor"),
        None => assert_eq!(page.after, 0),
    }
}

/// Of the page that is behind the same item.
fn link_to(page: &Page) -> Uri {
    let response = page.respond_up_to::<i64>(&[], Some(page.after));
    let link = response.headers()[header::LINK].to_str().expect("text");
    let target = link.strip_prefix('<').and_then(|it| it.split('>').next());
    target.expect("a target").parse().expect("a URI")
}

#[cfg(test)]
mod tests {
    #[test]
    fn pages_survive_fuzzing() {
        testkit::fuzzing::replay("page", super::page);
    }
}
