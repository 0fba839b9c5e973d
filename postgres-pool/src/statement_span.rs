//! A span for each statement below a sampled one, by OpenTelemetry's conventions for databases.

use opentelemetry::{
    Context, KeyValue,
    trace::{SpanBuilder, SpanKind, TraceContextExt},
};
use service_runtime::telemetry::spans;
use sqlx::{
    Execute, Postgres, SqlStr,
    error::BoxDynError,
    postgres::{PgArguments, PgStatement},
};

/// Statements are told apart by what they do to which tables, at most so many of them.
const MAX_OPERATIONS: usize = 5;

/// Nothing if the trace is not sampled.
#[derive(Debug)]
pub(super) struct StatementSpan(Option<Context>);

impl StatementSpan {
    pub(super) fn start() -> Self {
        Self(spans::current().map(|parent| {
            let span = SpanBuilder::from_name("postgresql")
                .with_kind(SpanKind::Client)
                .with_attributes([KeyValue::new("db.system.name", "postgresql")]);
            spans::start_in_context("postgres-pool", span, &parent)
        }))
    }

    /// Learns what the statement is when it is sent.
    pub(super) fn observe<E>(&self, query: E) -> Observed<E> {
        Observed {
            query,
            span: self.0.clone(),
        }
    }

    pub(super) fn conclude<T>(self, answer: &sqlx::Result<T>) {
        let Some(context) = self.0 else {
            return;
        };
        match answer {
            Ok(_) => {}
            Err(sqlx::Error::Database(refusal)) => {
                let code = refusal.code().unwrap_or_default().into_owned();
                let status = KeyValue::new("db.response.status_code", code.clone());
                context.span().set_attribute(status);
                spans::fail(&context, code);
            }
            Err(sqlx::Error::Io(error)) => spans::fail(&context, error.kind().to_string()),
            Err(_) => spans::fail(&context, "_OTHER"),
        }
        context.span().end();
    }
}

/// A statement whose span is to be named.
pub(super) struct Observed<E> {
    query: E,
    span: Option<Context>,
}

impl<'q, E: Execute<'q, Postgres>> Execute<'q, Postgres> for Observed<E> {
    fn sql(self) -> SqlStr {
        let sql = self.query.sql();
        if let Some(context) = self.span {
            let summary = summary(sql.as_str());
            let span = context.span();
            span.set_attribute(KeyValue::new("db.query.summary", summary.clone()));
            span.update_name(summary);
        }
        sql
    }

    fn statement(&self) -> Option<&PgStatement> {
        self.query.statement()
    }

    fn take_arguments(&mut self) -> Result<Option<PgArguments>, BoxDynError> {
        self.query.take_arguments()
    }

    fn persistent(&self) -> bool {
        self.query.persistent()
    }
}

/// What a statement does to which tables: `update users insert outbox.event`. Of a statement that writes,
/// its reads are left out; one without a table is called by its first word.
fn summary(sql: &str) -> String {
    let words: Vec<_> = [""].into_iter().chain(sql.split_whitespace()).collect();
    let operations = words.windows(3).filter_map(|words| {
        let keyword = |place: usize| words[place].trim_start_matches('(');
        let operation = match (keyword(0), keyword(1)) {
            ("insert", "into") => "insert",
            ("delete", "from") => "delete",
            ("for" | "key" | "do", "update") => return None,
            (_, "update") => "update",
            (_, "from") => "select",
            _ => return None,
        };
        let table = words[2].trim_end_matches([';', ',', ')']);
        let is_name = table.starts_with(|first: char| first.is_ascii_alphabetic());
        is_name.then_some((operation, table))
    });
    let (mut reads, mut writes): (Vec<_>, Vec<_>) =
        operations.partition(|(operation, _)| *operation == "select");
    let of_interest = if writes.is_empty() {
        &mut reads
    } else {
        &mut writes
    };
    of_interest.truncate(MAX_OPERATIONS);
    match of_interest.as_slice() {
        [] => (words.get(1).copied().unwrap_or("postgresql")).to_owned(),
        some => some
            .iter()
            .map(|(operation, table)| format!("{operation} {table}"))
            .collect::<Vec<_>>()
            .join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::summary;

    #[test]
    fn a_statement_is_called_by_what_it_does_to_which_tables() {
        for (sql, expected) in [
            (
                "select id from users where id = $1 for no key update",
                "select users",
            ),
            (
                "with current as (select * from users for update), changed as (update users set a = 1 \
                 from current returning *) insert into outbox.event (id) select id from changed",
                "update users insert outbox.event",
            ),
            ("with gone as (delete from users) select 1", "delete users"),
            (
                "insert into a values (1) on conflict do update set b = 2",
                "insert a",
            ),
            ("commit", "commit"),
            ("select 1 from (values (1)) as it", "select"),
            ("", "postgresql"),
        ] {
            // Statements begin in a line of their own.
            assert_eq!(summary(&format!("\n    {sql}\n")), expected, "{sql}");
        }
    }
}
