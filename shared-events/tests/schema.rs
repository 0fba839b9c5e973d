//! What is published in `schema/` is what the code says.
//!
//! Write it anew with `UPDATE_SCHEMA=1 cargo test -p shared-events --test schema`.

use std::{env, fs, path::Path};

use serde::Serialize;
use shared_events::{Topic, UserEvent, asyncapi};

#[test]
fn the_published_schema_of_an_event_is_that_of_the_code() {
    assert_published("user-event.json", &UserEvent::json_schema());
}

#[test]
fn the_published_description_of_the_events_is_that_of_the_code() {
    assert_published("asyncapi.json", &asyncapi(&Topic::default()));
}

fn assert_published(name: &str, wanted: &impl Serialize) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../schema")
        .join(name);
    let wanted = serde_json::to_string_pretty(wanted).expect("JSON") + "\n";
    if env::var_os("UPDATE_SCHEMA").is_some() {
        fs::write(&path, &wanted).expect("a file that can be written");
    }
    let published = fs::read_to_string(&path).expect("a file in schema/");
    assert!(
        published == wanted,
        "write it anew: see the head of this test"
    );
}
