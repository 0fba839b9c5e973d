//! What the `type` of a problem leads to: a page for people, served by the service itself.

use std::fmt::Write;

use axum::{
    Router,
    extract::Path,
    response::{Html, IntoResponse, Response},
    routing::get,
};

use super::{Kind, Problem};

/// `/problems` with all kinds, and `/problems/{slug}` with one.
pub fn router() -> Router {
    Router::new()
        .route("/problems", get(async || Html(page(Kind::ALL))))
        .route("/problems/{slug}", get(one))
}

async fn one(Path(slug): Path<String>) -> Response {
    match Kind::ALL.iter().find(|kind| kind.slug == slug) {
        Some(kind) => Html(page(std::slice::from_ref(kind))).into_response(),
        None => Problem::new(Kind::NOT_FOUND).into_response(),
    }
}

fn page(kinds: &[Kind]) -> String {
    let mut html =
        "<!doctype html><html lang=en><meta charset=utf-8><title>Problems</title>".to_owned();
    for kind in kinds {
        let Kind {
            slug,
            status,
            title,
            advice,
        } = kind;
        let advice = code(advice);
        write!(
            html,
            "<h2 id={slug}>{title}</h2><p><code>/problems/{slug}</code>, status {}</p><p>{advice}</p>",
            status.as_u16()
        )
        .expect("memory to write to");
    }
    html
}

/// `advice` is our own text: it has back quotes, and nothing that HTML would take for markup.
fn code(advice: &str) -> String {
    let mut parts = advice.split('`');
    let mut html = parts.next().unwrap_or_default().to_owned();
    for (at, part) in parts.enumerate() {
        html.push_str(if at % 2 == 0 { "<code>" } else { "</code>" });
        html.push_str(part);
    }
    html
}

/// The same as a page of the documentation.
#[must_use]
pub fn markdown() -> String {
    let mut text = "# Problems\n\nErrors are problem details (RFC 9457, `application/problem+json`). \
        Programs go by `type`; people find it explained here and, by the same path, at each service.\n"
        .to_owned();
    for Kind {
        slug,
        status,
        title,
        advice,
    } in Kind::ALL
    {
        let status = status.as_u16();
        write!(text, "\n## {slug}\n\n{status} **{title}.** {advice}\n")
            .expect("memory to write to");
    }
    text
}
