//! What is published in `schema/` is what the code says.

use std::{env, fs, path::Path};

use shared_events::UserEvent;

/// `UPDATE_SCHEMA=1 cargo test -p shared-events` writes the file anew.
#[test]
fn the_published_schema_is_that_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schema/user-event.json");
    let schema = serde_json::to_string_pretty(&UserEvent::json_schema()).expect("JSON") + "\n";
    if env::var_os("UPDATE_SCHEMA").is_some() {
        fs::write(&path, &schema).expect("a file that can be written");
    }
    let published = fs::read_to_string(&path).expect("schema/user-event.json");
    assert!(
        published == schema,
        "run: UPDATE_SCHEMA=1 cargo test -p shared-events"
    );
}
