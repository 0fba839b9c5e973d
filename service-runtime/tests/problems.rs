//! `docs/problems.md` says what the code says.
//!
//! Write it anew with `UPDATE_SCHEMA=1 cargo test -p service-runtime --test problems`.

use service_runtime::problem;
use testkit::assert_published;

#[test]
fn the_page_of_problems_is_up_to_date() {
    assert_published("docs/problems.md", &problem::markdown());
}
