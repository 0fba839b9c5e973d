//! Users: what they are, how they are kept, how clients reach them.

mod api;
mod body;
mod creation;
mod draft;
mod email;
mod email_backfill;
mod error;
mod import;
mod name;
mod once;
mod patch;
mod republish;
mod store;

pub(crate) use self::{
    api::{Users, routes},
    creation::{CREATORS, creation},
    email_backfill::backfill as backfill_normal_emails,
    import::Imports,
    store::{
        check,
        republish::{Republished, is_latest, last_user_id, republish},
    },
};
