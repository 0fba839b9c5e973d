//! `schema/openapi-notification-service.json` is what the service serves at `/openapi.json`.
//!
//! Write it anew with `UPDATE_SCHEMA=1 cargo test -p notification-service --test openapi`.

use std::{env, fs, path::Path};

#[test]
fn the_published_description_of_the_api_is_that_of_the_code() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../schema/openapi-notification-service.json");
    let document = notification_service::app::openapi();
    let wanted = serde_json::to_string_pretty(&document).expect("JSON") + "\n";
    if env::var_os("UPDATE_SCHEMA").is_some() {
        fs::write(&path, &wanted).expect("a file that can be written");
    }
    let published = fs::read_to_string(&path).expect("a file in schema/");
    assert!(
        published == wanted,
        "write it anew: see the head of this test"
    );
}
