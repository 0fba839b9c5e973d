//! `docs/problems.md` says what the code says.
//!
//! Write it anew with `UPDATE_SCHEMA=1 cargo test -p service-runtime --test problems`.

use std::{env, fs, path::Path};

use service_runtime::problem;

#[test]
fn the_page_of_problems_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/problems.md");
    let wanted = problem::markdown();
    if env::var_os("UPDATE_SCHEMA").is_some() {
        fs::write(&path, &wanted).expect("writing the page");
    }
    let found = fs::read_to_string(&path).expect("docs/problems.md");
    assert!(found == wanted, "write it anew: see the head of this test");
}
