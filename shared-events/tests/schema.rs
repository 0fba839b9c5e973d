//! What is published in `schema/` is what the code says.
//!
//! Write it anew with `UPDATE_SCHEMA=1 cargo test -p shared-events --test schema`.

use shared_events::{DEFAULT_STREAM, DEFAULT_SUBJECT, UserEvent, asyncapi};
use testkit::assert_published;

#[test]
fn the_published_schema_of_an_event_is_that_of_the_code() {
    let schema = serde_json::to_string_pretty(&UserEvent::json_schema());
    assert_published("schema/user-event.json", &(schema.expect("JSON") + "\n"));
}

#[test]
fn the_published_description_of_the_events_is_that_of_the_code() {
    let description = serde_json::to_string_pretty(&asyncapi(DEFAULT_STREAM, DEFAULT_SUBJECT));
    assert_published("schema/asyncapi.json", &(description.expect("JSON") + "\n"));
}
