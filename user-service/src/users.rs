//! Users: what they are, how they are stored, how clients reach them.

mod api;
mod body;
mod creation;
mod digests;
mod draft;
mod email;
mod email_backfill;
mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing {
    pub use super::{import::fuzzing::import, patch::fuzzing::merge_patch};
}
mod id_sequence;
mod idempotent_create;
mod import;
mod name;
mod patch;
mod republish;
mod request;
mod state;
mod store;

use std::sync::Arc;

use service_runtime::http::Routes;
use utoipa_axum::router::OpenApiRouter;

pub(crate) use self::{
    creation::{CREATORS, Creator, creation},
    email_backfill::backfill as backfill_normal_emails,
    id_sequence::watch_id_sequence,
    import::Imports,
    request::{bad_parameter, path_id},
    state::Users,
    store::{
        check,
        republish::{Republished, decide_retry, last_user_id, republish},
    },
};

/// `/users` and what is below it.
pub(crate) fn routes(users: Users, imports: Imports) -> Routes {
    Routes {
        bounded: bounded().with_state(Arc::new(users)),
        streaming: import::router().with_state(Arc::new(imports)),
        ..Routes::default()
    }
}

/// The description of the same routes, without what serves them.
pub(crate) fn description() -> Routes {
    Routes {
        bounded: OpenApiRouter::with_openapi(bounded().into_openapi()),
        streaming: OpenApiRouter::with_openapi(import::router().into_openapi()),
        ..Routes::default()
    }
}

fn bounded() -> OpenApiRouter<Arc<Users>> {
    api::router()
        .merge(digests::router())
        .merge(republish::router())
}
