//! The description of an API: what is added to what the handlers say.

use axum::http::StatusCode;
use serde_json::{Value, json};
use service_runtime::{http::Routes, openapi::Api, problem::Kind};
use utoipa_axum::{router::OpenApiRouter, routes};

const API: Api = Api {
    title: "Tea",
    about: "How to get tea.",
    problems: &[Kind::new(
        "out-of-tea",
        StatusCode::SERVICE_UNAVAILABLE,
        "Out of tea",
        "Ask again after `Retry-After`.",
    )],
    headers: &[("Sugar", "In lumps."), ("ETag", "The brew, in quotes.")],
};

/// Make tea
#[utoipa::path(
    post, path = "/tea",
    params(("Sugar" = Option<u8>, Header, maximum = 9),
           ("Milk" = Option<String>, Header, description = "Whose.", pattern = "^(cow|oat)$")),
    responses(
        (status = 201, description = "Made", headers(("ETag"), ("Location" = String, description = "Which table."))),
        (status = 503, description = "No tea", headers(("Retry-After" = u32, description = "In minutes."))),
    )
)]
async fn make() -> StatusCode {
    StatusCode::CREATED
}

fn operation() -> Value {
    let routes = Routes::<()> {
        bounded: OpenApiRouter::new().routes(routes!(make)),
        ..Routes::default()
    };
    routes.document(&API)["paths"]["/tea"]["post"].take()
}

#[test]
fn what_a_handler_declares_of_its_headers_stays() {
    let operation = operation();
    let milk = &operation["parameters"][1];
    assert_eq!(milk["description"], "Whose.");
    let schema = json!({"type": "string", "pattern": "^(cow|oat)$"});
    assert_eq!(milk["schema"], schema);
    let retry_after = &operation["responses"]["503"]["headers"]["Retry-After"];
    assert_eq!(retry_after["description"], "In minutes.");
    assert_eq!(retry_after["schema"]["type"], "integer");
    assert_eq!(operation["responses"]["503"]["description"], "No tea");
}

#[test]
fn what_a_handler_leaves_out_is_taken_from_the_service_and_then_from_what_all_have() {
    let operation = operation();
    let sugar = &operation["parameters"][0];
    assert_eq!(sugar["description"], "In lumps.");
    assert_eq!(sugar["schema"]["type"], "integer");
    let headers = &operation["responses"]["201"]["headers"];
    assert_eq!(headers["ETag"]["description"], "The brew, in quotes.");
    assert_eq!(headers["X-Request-Id"]["schema"]["type"], "string");
    let challenge = &operation["responses"]["401"]["headers"]["WWW-Authenticate"];
    assert_eq!(challenge["description"], "`Bearer`.");
}

#[test]
fn problems_are_those_of_the_service_and_the_common_ones_by_status() {
    let responses = &operation()["responses"];
    let examples = &responses["503"]["content"]["application/problem+json"]["examples"];
    let slugs: Vec<_> = examples.as_object().expect("examples").keys().collect();
    assert_eq!(
        slugs,
        ["not-ready", "out-of-tea", "overloaded", "unavailable"]
    );
    let example = json!({"type": "/problems/out-of-tea", "title": "Out of tea", "status": 503});
    assert_eq!(examples["out-of-tea"]["value"], example);
    assert_eq!(
        responses["403"]["description"],
        "Insufficient scope, or Page of another origin"
    );
}
