//! What the consumer of this process does with events, for whoever watches: the last of them, and a
//! feed of each as it is handled.

mod api;
mod event;
mod feed;
mod recent;

pub(crate) use self::{
    api::routes,
    event::{HandledEvent, Outcome},
    feed::{Figures, Source},
    recent::RecentEvents,
};
