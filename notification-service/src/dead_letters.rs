//! Events that could not be applied, and waiting for an operator.

pub(crate) mod api;
pub(crate) mod category;
