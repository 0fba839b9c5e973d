//! `docs/problems.md` says what the code says.
//!
//! Write it anew with `UPDATE_SCHEMA=1 cargo test -p service-runtime --test problems`.

use service_runtime::problem::{Kind, markdown};
use testkit::assert_published;

const ABOUT: &str = "# Problems

Errors are problem details (RFC 9457, `application/problem+json`). Programs go by `type`; people find \
it explained here and, by the same path, at each service. These are common to both services; there are \
more of [the user service](problems-user-service.md) and of
[the notification service](problems-notification-service.md).
";

#[test]
fn the_page_of_problems_is_up_to_date() {
    let page = ABOUT.to_owned() + &markdown(Kind::COMMON);
    assert_published("docs/problems.md", &page);
}
