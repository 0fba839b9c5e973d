//! The operations of a path that our services have.

use axum::http::Method;
use utoipa::openapi::path::{Operation, PathItem};

pub(super) fn of(item: &PathItem) -> impl Iterator<Item = &Operation> {
    [&item.get, &item.post, &item.put, &item.patch, &item.delete]
        .into_iter()
        .flatten()
}

pub(super) fn of_mut(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    let operations = [
        (Method::GET, &mut item.get),
        (Method::POST, &mut item.post),
        (Method::PUT, &mut item.put),
        (Method::PATCH, &mut item.patch),
        (Method::DELETE, &mut item.delete),
    ];
    (operations.into_iter()).filter_map(|(method, it)| Some((method, it.as_mut()?)))
}
