//! What the `type` of a problem leads to: a page for people, served by the service itself.

use std::{fmt::Write, sync::Arc};

use axum::{
    Router,
    extract::{Path, State},
    response::{Html, IntoResponse, Response},
    routing::get,
};

use super::{Kind, Problem};

/// `/problems` with all of `kinds`, and `/problems/{slug}` with one.
pub(crate) fn router(kinds: Vec<Kind>) -> Router {
    Router::new()
        .route("/problems", get(all))
        .route("/problems/{slug}", get(one))
        .with_state(Arc::from(kinds))
}

async fn all(State(kinds): State<Arc<[Kind]>>) -> Html<String> {
    Html(page(&kinds))
}

async fn one(State(kinds): State<Arc<[Kind]>>, Path(slug): Path<String>) -> Response {
    match kinds.iter().find(|kind| kind.slug == slug) {
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

/// `kinds` as a section of the documentation.
#[must_use]
pub fn markdown(kinds: &[Kind]) -> String {
    let mut text = String::new();
    for Kind {
        slug,
        status,
        title,
        advice,
    } in kinds
    {
        let status = status.as_u16();
        write!(text, "\n## {slug}\n\n{status} **{title}.** {advice}\n")
            .expect("memory to write to");
    }
    text
}
