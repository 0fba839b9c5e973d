//! docs/metrics.md says what the code says.
//!
//! Write it anew with `UPDATE_SCHEMA=1 cargo test -p outbox --test metrics`.

use testkit::assert_published_section;

#[test]
fn the_list_of_metrics_is_up_to_date() {
    let list = service_runtime::metrics::markdown(&[outbox::metrics::METRICS]);
    assert_published_section("docs/metrics.md", "outbox", &list);
}
