//! The protocol by which a write reaches the copy, as a model that is explored exhaustively within bounds:
//! every order of its steps, with every fault that the bounds allow. Each step names the code that it
//! stands for. What the code rests on is a [`Guard`]: with one of them switched off, an invariant no longer
//! holds, and the checker shows the shortest way to the violation. [docs/model.md](../../docs/model.md) is
//! written from it.
//!
//! [`conformance`] compares what services have recorded with the same rules.

pub mod conformance;
mod guard;
#[cfg(feature = "model")]
mod model;

pub use self::guard::Guard;
#[cfg(feature = "model")]
pub use self::model::{
    Action, Bounds, NEEDED, Needed, Protocol, SCENARIOS, STEPS, Scenario, State, Step,
};
