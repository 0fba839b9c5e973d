//! Users: what they are, how they are kept, how clients reach them.

mod api;
mod draft;
mod email;
mod name;
mod store;

pub(crate) use api::{Users, router};
