//! The description of an API (`OpenAPI` 3.1), made from the code that serves it.
//!
//! Handlers describe what is their own. What all have in common is added by rule
//! ([`conventions`]): the errors that limits, tokens, parameters and bodies can lead to, the shape of
//! problems, and what the headers mean.

mod conventions;
mod operations;

use std::collections::HashSet;

use axum::{Json, Router, http::HeaderValue, http::header, routing::get};
use serde_json::Value;
use tower_http::set_header::SetResponseHeaderLayer;
use utoipa::{
    Modify,
    openapi::{OpenApi, security::SecurityRequirement},
};
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::problem::Kind;

/// The path of the document.
const DOCUMENT: &str = "/openapi.json";

/// What a service says of its API as a whole.
#[derive(Debug, Clone, Copy)]
pub struct Api {
    pub title: &'static str,
    /// In Markdown.
    pub about: &'static str,
    /// Kinds of problems of its own, beside [`Kind::COMMON`].
    pub problems: &'static [Kind],
    /// Names of headers and what they mean, in requests and answers alike, beside the common ones.
    pub headers: &'static [(&'static str, &'static str)],
}

impl Api {
    /// All kinds of problems that it answers with, in the order of their status.
    #[must_use]
    pub fn problems(&self) -> Vec<Kind> {
        let mut kinds = [Kind::COMMON, self.problems].concat();
        kinds.sort_by_key(|kind| kind.status);
        kinds
    }

    /// The whole document: what the handlers say of themselves, and what is the same for all.
    ///
    /// # Panics
    /// If what the handlers say is no JSON, which is a fault of theirs.
    #[must_use]
    pub fn document(&self, mut handlers: OpenApi) -> Value {
        self.modify(&mut handlers);
        serde_json::to_value(handlers).expect("a document is JSON")
    }
}

/// Serves the document at `/openapi.json`, and for people at `/docs`.
pub(crate) fn router(document: Value) -> Router {
    let docs = SwaggerUi::new("/docs").config(Config::from(DOCUMENT));
    // The page's own scripts and styles, and nothing from elsewhere: it works offline.
    let policy = HeaderValue::from_static(
        "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
         frame-ancestors 'none'",
    );
    let policy = SetResponseHeaderLayer::overriding(header::CONTENT_SECURITY_POLICY, policy);
    Router::from(docs)
        .layer(policy)
        .route(DOCUMENT, get(async move || Json(document)))
}

/// The paths with an operation whose description asks for a token of scope repair.
pub(crate) fn paths_of_scope_repair(handlers: &OpenApi) -> HashSet<String> {
    let repair = SecurityRequirement::new("token", ["repair"]);
    let paths = handlers.paths.paths.iter().filter(|(_, item)| {
        let mut operations = operations::of(item);
        operations.any(|it| it.security.iter().flatten().any(|it| *it == repair))
    });
    paths.map(|(path, _)| path.clone()).collect()
}
