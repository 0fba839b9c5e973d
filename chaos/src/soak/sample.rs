//! What could grow: memory, descriptors, tables, the stream, the copy. What can't be asked at the moment
//! is left empty.

use std::{fs, time::Duration};

use async_nats::jetstream;
use mongodb::bson::doc;
use sqlx::PgPool;
use tokio::time::{Instant, timeout};

use crate::stack::{SERVICES, Stack};

const DEADLINE: Duration = Duration::from_secs(5);
const PAGE_BYTES: u64 = 4096;

pub(super) struct Sampler<'a> {
    stack: &'a Stack,
    begin: Instant,
    pool: PgPool,
    http: reqwest::Client,
}

/// Of Postgres, each as a number.
const SIZES: [(&str, &str); 5] = [
    ("users", "select count(*) from users"),
    ("users_bytes", "select pg_total_relation_size('users')"),
    (
        "outbox_bytes",
        "select sum(pg_total_relation_size(c.oid))::bigint from pg_class c
         join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'outbox' and c.relkind = 'r'",
    ),
    ("database_bytes", "select pg_database_size(current_database())"),
    ("pending", "select count(*) from outbox.pending"),
];
const OF_SERVICES: [&str; 3] = ["memory_bytes", "descriptors", "series"];
const OTHERS: [&str; 4] = ["stream_messages", "stream_bytes", "copies", "copy_bytes"];

impl<'a> Sampler<'a> {
    pub(super) fn new(stack: &'a Stack) -> anyhow::Result<Self> {
        Ok(Self {
            stack,
            begin: Instant::now(),
            pool: PgPool::connect_lazy(&stack.endpoints.postgres)?,
            http: reqwest::Client::builder().timeout(DEADLINE).build()?,
        })
    }

    pub(super) fn header(&self) -> String {
        let mut columns = vec!["seconds".to_owned(), "acknowledged".to_owned()];
        columns.extend(SIZES.iter().map(|(name, _)| (*name).to_owned()));
        columns.extend(OTHERS.map(str::to_owned));
        for service in SERVICES {
            columns.extend(OF_SERVICES.map(|what| format!("{service} {what}")));
        }
        columns.join(",")
    }

    pub(super) async fn sample(&mut self, acknowledged: u64) -> String {
        let mut values = vec![Some(self.begin.elapsed().as_secs()), Some(acknowledged)];
        for (_, statement) in SIZES {
            let size = sqlx::query_scalar::<_, i64>(statement).fetch_one(&self.pool);
            let size = timeout(DEADLINE, size).await.ok().and_then(Result::ok);
            values.push(size.and_then(|size| size.try_into().ok()));
        }
        let stream = timeout(DEADLINE, self.stream()).await.ok().flatten();
        let copy = timeout(DEADLINE, self.copy()).await.ok().flatten();
        for pair in [stream, copy] {
            values.extend([pair.map(|it| it.0), pair.map(|it| it.1)]);
        }
        for service in SERVICES {
            values.extend(self.service(service).await);
        }
        let text = |value: Option<u64>| value.map_or_else(String::new, |it| it.to_string());
        values.into_iter().map(text).collect::<Vec<_>>().join(",")
    }

    /// Messages and bytes.
    async fn stream(&self) -> Option<(u64, u64)> {
        let endpoints = &self.stack.endpoints;
        let client = async_nats::connect(&endpoints.nats).await.ok()?;
        let stream = jetstream::new(client)
            .get_stream(&endpoints.stream)
            .await
            .ok()?;
        let state = &stream.cached_info().state;
        Some((state.messages, state.bytes))
    }

    /// Documents and bytes.
    async fn copy(&self) -> Option<(u64, u64)> {
        let endpoints = &self.stack.endpoints;
        let client = mongodb::Client::with_uri_str(&endpoints.mongodb)
            .await
            .ok()?;
        let database = client.database(&endpoints.mongodb_database);
        let command = doc! { "collStats": "user_notifications" };
        let stats = database.run_command(command).await.ok()?;
        let number = |name: &str| {
            mongodb::bson::Bson::as_i64(stats.get(name)?)
                .or_else(|| stats.get_i32(name).ok().map(i64::from))
        };
        Some((
            number("count")?.try_into().ok()?,
            number("storageSize")?.try_into().ok()?,
        ))
    }

    /// Memory, descriptors and series of metrics.
    async fn service(&self, name: &str) -> [Option<u64>; 3] {
        let pid = match self.stack.service(name) {
            Some(service) => service.lock().await.pid(),
            None => None,
        };
        let memory = pid.and_then(|pid| {
            let pages = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
            let pages: u64 = pages.split(' ').nth(1)?.parse().ok()?;
            Some(pages * PAGE_BYTES)
        });
        let descriptors = pid.and_then(|pid| {
            let all = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
            Some(all.count() as u64)
        });
        [memory, descriptors, self.series(name).await]
    }

    async fn series(&self, name: &str) -> Option<u64> {
        let url = self.stack.url(name)?;
        let answer = self.http.get(format!("{url}/metrics")).send().await.ok()?;
        let text = answer.text().await.ok()?;
        let series = text.lines().filter(|line| !line.starts_with('#'));
        Some(series.count() as u64)
    }
}
