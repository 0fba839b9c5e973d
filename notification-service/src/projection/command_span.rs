//! Spans of the commands that bring the copy up to date, by OpenTelemetry's conventions for databases.

use event_consumer::spans::CallSpans;
use mongodb::{Database, error::ErrorKind};
use opentelemetry::{
    KeyValue,
    trace::{SpanBuilder, SpanKind},
};

use crate::mongo::Failure;

/// Of an `update` with so many updates.
pub(super) fn of_update(database: &Database, collection: &str, updates: usize) -> CallSpans {
    CallSpans::start("notification-service", || {
        let mut attributes = vec![
            KeyValue::new("db.system.name", "mongodb"),
            KeyValue::new("db.operation.name", "update"),
            KeyValue::new("db.namespace", database.name().to_owned()),
            KeyValue::new("db.collection.name", collection.to_owned()),
        ];
        if updates > 1 {
            let updates = i64::try_from(updates).unwrap_or(i64::MAX);
            attributes.push(KeyValue::new("db.operation.batch.size", updates));
        }
        SpanBuilder::from_name(format!("update {collection}"))
            .with_kind(SpanKind::Client)
            .with_attributes(attributes)
    })
}

pub(super) fn conclude<T>(spans: &CallSpans, answer: &Result<T, Failure>) {
    match answer {
        Ok(_) => {}
        Err(Failure::Late(_)) => spans.fail("timeout"),
        Err(Failure::Unconfirmed(_)) => spans.fail("unconfirmed"),
        Err(Failure::Driver(error)) => match error.kind.as_ref() {
            ErrorKind::Command(error) => spans.fail(error.code.to_string()),
            ErrorKind::ServerSelection { .. } => spans.fail("server_selection"),
            ErrorKind::Io(_) => spans.fail("io"),
            _ => spans.fail("_OTHER"),
        },
    }
}
