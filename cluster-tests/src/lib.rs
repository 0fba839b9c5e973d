//! The cluster that `scripts/cluster` has started, and the loss of its members.

pub mod cluster;
pub mod faults;
pub mod processes;
