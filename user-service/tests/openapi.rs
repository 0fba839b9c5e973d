//! `schema/openapi-user-service.json` is what the service serves at `/openapi.json`, and
//! `docs/problems-user-service.md` what it serves at `/problems`.
//!
//! Write them anew with `UPDATE_SCHEMA=1 cargo test -p user-service --test openapi`.

use service_runtime::problem::markdown;
use testkit::assert_published;

#[test]
fn the_published_description_of_the_api_is_that_of_the_code() {
    let document = serde_json::to_string_pretty(&user_service::app::openapi());
    let document = document.expect("JSON") + "\n";
    assert_published("schema/openapi-user-service.json", &document);
}

#[test]
fn the_page_of_its_own_problems_is_up_to_date() {
    let about = "# Problems of the user service\n\nBeside [those of any service](problems.md).\n";
    let page = about.to_owned() + &markdown(user_service::app::API.problems);
    assert_published("docs/problems-user-service.md", &page);
}
