//! `schema/openapi-user-service.json` is what the service serves at `/openapi.json`.
//!
//! Write it anew with `UPDATE_SCHEMA=1 cargo test -p user-service --test openapi`.

use testkit::assert_published;

#[test]
fn the_published_description_of_the_api_is_that_of_the_code() {
    let document = serde_json::to_string_pretty(&user_service::app::openapi());
    let document = document.expect("JSON") + "\n";
    assert_published("schema/openapi-user-service.json", &document);
}
