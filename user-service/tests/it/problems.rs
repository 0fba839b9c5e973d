//! Each kind of error that the user API has of its own, as clients see it.

use reqwest::{Method, RequestBuilder, StatusCode, header};
use serde_json::{Value, json};

use crate::support::{Api, World};

const JSON: &str = "application/json";

fn request(api: &Api, method: Method, path: &str, media_type: &str, body: &str) -> RequestBuilder {
    let request = api.client().request(method, api.to(path));
    let request = request.header(header::CONTENT_TYPE, media_type);
    request
        .header("x-request-id", "the-request")
        .body(body.to_owned())
}

async fn problem(request: RequestBuilder) -> Value {
    let response = request.send().await.expect("an answer");
    assert_ne!(response.status(), StatusCode::OK);
    assert_eq!(
        response.headers()[header::CONTENT_TYPE],
        "application/problem+json"
    );
    response.json().await.expect("a problem")
}

#[tokio::test]
async fn each_error_says_what_where_and_under_which_id() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    let ada = json!({"name": "Ada", "email": "ada@example.com"}).to_string();
    let post = |media_type, body: &str| request(&api, Method::POST, "/users", media_type, body);
    let created = post(JSON, &ada).header("idempotency-key", "k").send().await;
    assert_eq!(created.expect("an answer").status(), StatusCode::CREATED);

    insta::assert_json_snapshot!(problem(post(JSON, &ada)).await, @r#"
    {
      "detail": "the e-mail address is taken",
      "errors": [
        {
          "detail": "belongs to another user",
          "pointer": "/email"
        }
      ],
      "request_id": "the-request",
      "status": 409,
      "title": "E-mail address taken",
      "type": "/problems/email-taken"
    }
    "#);
    insta::assert_json_snapshot!(problem(post(JSON, r#"{"name": 7}"#)).await, @r#"
    {
      "detail": "the body is not valid",
      "errors": [
        {
          "detail": "must be a string",
          "pointer": "/name"
        },
        {
          "detail": "is required",
          "pointer": "/email"
        }
      ],
      "request_id": "the-request",
      "status": 422,
      "title": "Invalid body",
      "type": "/problems/invalid-body"
    }
    "#);
    insta::assert_json_snapshot!(problem(post(JSON, "{")).await, @r#"
    {
      "detail": "the body is not JSON: EOF while parsing an object at line 1 column 1",
      "request_id": "the-request",
      "status": 400,
      "title": "Malformed body",
      "type": "/problems/malformed-body"
    }
    "#);
    insta::assert_json_snapshot!(problem(post("text/plain", &ada)).await, @r#"
    {
      "detail": "send the body as content-type: application/json",
      "request_id": "the-request",
      "status": 415,
      "title": "Unsupported media type",
      "type": "/problems/unsupported-media-type"
    }
    "#);
    let other = r#"{"name": "Eve", "email": "eve@example.com"}"#;
    let reused = post(JSON, other).header("idempotency-key", "k");
    insta::assert_json_snapshot!(problem(reused).await, @r#"
    {
      "detail": "this Idempotency-Key was used for another request",
      "request_id": "the-request",
      "status": 422,
      "title": "Idempotency key reused",
      "type": "/problems/key-reused"
    }
    "#);
    let odd = post(JSON, other).header("idempotency-key", "a b");
    insta::assert_json_snapshot!(problem(odd).await, @r#"
    {
      "detail": "the request's headers are not valid",
      "errors": [
        {
          "detail": "must be one value of 1 to 255 visible ASCII characters",
          "parameter": "Idempotency-Key"
        }
      ],
      "request_id": "the-request",
      "status": 400,
      "title": "Invalid parameter",
      "type": "/problems/invalid-parameter"
    }
    "#);

    let get = |path| request(&api, Method::GET, path, JSON, "");
    insta::assert_json_snapshot!(problem(get("/users/7")).await, @r#"
    {
      "detail": "there is no user 7",
      "request_id": "the-request",
      "status": 404,
      "title": "Not found",
      "type": "/problems/not-found"
    }
    "#);
    insta::assert_json_snapshot!(problem(get("/users/ada")).await, @r#"
    {
      "detail": "the request's path or query is not valid",
      "errors": [
        {
          "detail": "must be a positive number of at most 64 bits",
          "parameter": "id"
        }
      ],
      "request_id": "the-request",
      "status": 400,
      "title": "Invalid parameter",
      "type": "/problems/invalid-parameter"
    }
    "#);
    insta::assert_json_snapshot!(problem(get("/users?limit=0")).await, @r#"
    {
      "detail": "the query is not valid",
      "errors": [
        {
          "detail": "must be a number from 1 to 1000",
          "parameter": "limit"
        }
      ],
      "request_id": "the-request",
      "status": 400,
      "title": "Invalid parameter",
      "type": "/problems/invalid-parameter"
    }
    "#);
    let stale = request(&api, Method::DELETE, "/users/1", JSON, "");
    let stale = stale.header(header::IF_MATCH, "\"2\"");
    insta::assert_json_snapshot!(problem(stale).await, @r#"
    {
      "detail": "the user has version 1 by now",
      "request_id": "the-request",
      "status": 412,
      "title": "Version mismatch",
      "type": "/problems/version-mismatch"
    }
    "#);

    let import = |path| {
        let lines = format!("{other}\n{ada}\n");
        request(&api, Method::POST, path, "application/x-ndjson", &lines)
    };
    insta::assert_json_snapshot!(problem(import("/users/import?mode=all-or-nothing")).await, @r#"
    {
      "detail": "nothing was imported: see lines",
      "lines": [
        {
          "line": 2,
          "problem": {
            "detail": "the e-mail address is taken",
            "errors": [
              {
                "detail": "belongs to another user",
                "pointer": "/email"
              }
            ],
            "status": 409,
            "title": "E-mail address taken",
            "type": "/problems/email-taken"
          }
        }
      ],
      "request_id": "the-request",
      "status": 422,
      "title": "Import refused",
      "type": "/problems/import-refused"
    }
    "#);
}
