//! What relay and consumer decide, recorded so that tests can compare it with the model of the protocol
//! (`protocol-model`): events of this target at the level trace, with the field `decision` and flat fields.
//! `RUST_LOG=info,decision=trace` turns them on.

use tracing::Level;

pub const TARGET: &str = "decision";

/// Asked once for a batch: what is not recorded costs no more than that.
#[must_use]
pub fn are_recorded() -> bool {
    tracing::enabled!(target: TARGET, Level::TRACE)
}
