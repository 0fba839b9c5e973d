//! The description of an API (`OpenAPI` 3.1), made from the code that serves it.
//!
//! Handlers describe what is their own. What all have in common is added here by rule: the errors
//! that limits, tokens, parameters and bodies can lead to, the shape of problems, and what the
//! headers mean.

use std::collections::HashSet;

use axum::{Json, Router, http::HeaderValue, http::header, routing::get};
use serde_json::{Map, Value, json};
use tower_http::set_header::SetResponseHeaderLayer;
use utoipa::{PartialSchema, openapi::OpenApi};
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::problem::{Kind, ProblemBody};

/// The path of the document.
const DOCUMENT: &str = "/openapi.json";
const PROBLEM_JSON: &str = "application/problem+json";
const READS: [&str; 2] = ["get", "head"];

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

/// The whole document: what the handlers say of themselves, and what is the same for all.
///
/// # Panics
/// If what the handlers say is no JSON, which is a fault of theirs.
#[must_use]
pub fn complete(title: &str, about: &str, handlers: &OpenApi) -> Value {
    let mut document = serde_json::to_value(handlers).expect("a document is JSON");
    document["openapi"] = json!("3.1.0");
    document["info"] = json!({
        "title": title,
        "description": about,
        "version": env!("CARGO_PKG_VERSION"),
        "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
    });
    document["components"]["schemas"]["Problem"] =
        serde_json::to_value(ProblemBody::schema()).expect("a schema is JSON");
    document["components"]["securitySchemes"] = json!({
        "token": {
            "type": "http",
            "scheme": "bearer",
            "description": "Needed if the service has tokens set: one of any scope for GET, one of \
                scope write for all else unless the operation says repair.",
        }
    });
    document["security"] = json!([{}, {"token": []}]);
    let paths = document["paths"].as_object_mut().into_iter();
    for item in paths.flat_map(Map::values_mut) {
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            complete_operation(method, operation);
        }
    }
    document
}

/// The paths with an operation whose description asks for a token of scope repair.
pub(crate) fn paths_of_scope_repair(handlers: &OpenApi) -> HashSet<String> {
    let document = serde_json::to_value(handlers).expect("a document is JSON");
    let asks_for_repair = |operation: &Value| {
        let security = operation["security"].as_array().into_iter().flatten();
        (security.filter_map(|it| it["token"].as_array()))
            .any(|scopes| scopes.contains(&json!("repair")))
    };
    let paths = document["paths"].as_object().into_iter().flatten();
    let paths = paths.filter(|(_, item)| {
        let operations = item.as_object().into_iter().flat_map(Map::values);
        operations.into_iter().any(asks_for_repair)
    });
    paths.map(|(path, _)| path.clone()).collect()
}

fn complete_operation(method: &str, operation: &mut Value) {
    let kinds = if operation["tags"] == json!(["health"]) {
        operation["security"] = json!([{}]);
        Vec::new()
    } else {
        common_kinds(method, operation)
    };
    let parameters = operation
        .get_mut("parameters")
        .and_then(Value::as_array_mut);
    parameters
        .into_iter()
        .flatten()
        .for_each(complete_parameter);
    let responses = &mut operation["responses"];
    for kind in kinds {
        let status = kind.status.as_str();
        if responses[status].is_null() {
            responses[status] = json!({});
        }
    }
    for (status, response) in responses.as_object_mut().into_iter().flatten() {
        complete_response(status, response);
    }
}

/// What any operation of this form can be answered.
fn common_kinds(method: &str, operation: &Value) -> Vec<Kind> {
    let mut kinds = vec![
        Kind::UNAUTHENTICATED,
        Kind::TOO_MANY_REQUESTS,
        Kind::UNKNOWN_HOST,
        Kind::INTERNAL,
        Kind::UNAVAILABLE,
    ];
    let content = operation["responses"]["200"]["content"].as_object();
    let is_stream = content.is_some_and(|it| !it.contains_key("application/json"));
    if !is_stream {
        kinds.push(Kind::NOT_ACCEPTABLE);
    }
    if !READS.contains(&method) {
        kinds.push(Kind::FORBIDDEN);
    }
    if operation["parameters"].is_array() {
        kinds.push(Kind::INVALID_PARAMETER);
    }
    if operation["requestBody"].is_object() {
        kinds.extend([
            Kind::MALFORMED_BODY,
            Kind::BODY_TOO_SLOW,
            Kind::BODY_TOO_LARGE,
            Kind::UNSUPPORTED_MEDIA_TYPE,
            Kind::INVALID_BODY,
        ]);
    }
    kinds
}

fn complete_parameter(parameter: &mut Value) {
    if parameter["in"] != "header" {
        return;
    }
    let name = parameter["name"].as_str().unwrap_or_default().to_owned();
    parameter["schema"] = json!({"type": "string"});
    parameter["description"] = json!(meaning(&name));
    if name == "Idempotency-Key" {
        parameter["schema"]["pattern"] = json!("^([!#-~]{1,255}|\"[!#-~]{1,255}\")$");
    }
}

fn complete_response(status: &str, response: &mut Value) {
    let kinds: Vec<_> = (Kind::ALL.iter())
        .filter(|kind| kind.status.as_str() == status)
        .collect();
    if !kinds.is_empty() {
        let examples = kinds.iter().map(|kind| {
            let example = json!({ "summary": kind.title, "value": kind.example() });
            (kind.slug.to_owned(), example)
        });
        let examples: Map<_, _> = examples.collect();
        response["content"] = json!({
            PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}
        });
        if response["description"].as_str().is_none_or(str::is_empty) {
            let titles: Vec<_> = kinds.iter().map(|kind| kind.title).collect();
            response["description"] = json!(titles.join(", or "));
        }
    }
    let extra = match status {
        "401" => Some("WWW-Authenticate"),
        "429" | "503" => Some("Retry-After"),
        _ => None,
    };
    let headers = &mut response["headers"];
    for name in ["X-Request-Id"].into_iter().chain(extra) {
        headers[name] = json!({});
    }
    for (name, header) in headers.as_object_mut().into_iter().flatten() {
        if header["schema"].is_null() {
            header["schema"] = json!({"type": "string"});
        }
        if let Some(meaning) = meaning(name) {
            header["description"] = json!(meaning);
        }
    }
}

/// What a header means, in a request or an answer.
fn meaning(header: &str) -> Option<&'static str> {
    Some(match header.to_ascii_lowercase().as_str() {
        "etag" => "The user's version, in quotes.",
        "if-match" => {
            "Make the change only if the user has one of these versions: `\"3\"`, or `*` for any."
        }
        "if-none-match" => "Answer 304 if the version is one of these.",
        "idempotency-key" => {
            "1 to 255 visible ASCII characters, quoted or bare. The same request under the same \
             key is carried out once, and gets the same answer each time."
        }
        "idempotency-replayed" => "`true` if this is the answer to an earlier request.",
        "location" => "Where the user is.",
        "link" => "The next page, with `rel=\"next\"`; absent on the last.",
        "retry-after" => "After how many seconds to ask again.",
        "www-authenticate" => "`Bearer`.",
        "x-request-id" => {
            "Names the request in the log; the client's own, if it sent one of at most 128 visible \
             ASCII characters."
        }
        "x-projection-lag-ms" => {
            "How far the copy is behind the stream, in milliseconds; `unknown` if nobody can tell."
        }
        "x-damaged-users" => {
            "The ids of users on this page whose document is damaged, separated by commas."
        }
        "traceparent" => "W3C trace context, handed on with the event.",
        "last-event-id" => "The `id` of the last event that was received, to go on from there.",
        "accept-patch" => "The media type of patches.",
        _ => return None,
    })
}
