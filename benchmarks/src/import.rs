//! `POST /users/import`, beside `COPY` of the same rows into the same two tables.

use std::{fmt::Write, net::SocketAddr};

use anyhow::{Context, ensure};
use sqlx::Row;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::Instant,
};
use uuid::Uuid;

use crate::{
    report::Report,
    stack::{Stack, ready},
};

/// As a client sends them.
const SENT_AT_ONCE: usize = 64 * 1024;

pub(crate) async fn run(quick: bool, report: &mut Report) -> anyhow::Result<()> {
    let (rounds, users) = if quick { (1, 50_000) } else { (5, 200_000) };
    let (mut copied, mut imported, mut under_key) = (vec![], vec![], vec![]);
    for _ in 0..rounds {
        copied.push(copy(&Stack::new().await?, users).await?);
        imported.push(import(users, None).await?);
        under_key.push(import(users, Some(Uuid::now_v7())).await?);
    }
    report.add("COPY into users and outbox", "/s", &copied);
    let limit = ("COPY", &copied[..]);
    report.add_beside(format!("import of {users} users"), "/s", &imported, limit);
    report.add_beside("the same under an idempotency key", "/s", &under_key, limit);
    Ok(())
}

/// One transaction for both tables; what is copied was made before.
async fn copy(stack: &Stack, count: usize) -> anyhow::Result<f64> {
    let (mut users, mut events) = (String::new(), String::new());
    for number in 1..=count {
        let (name, email) = ("Ada Lovelace", email(number));
        writeln!(users, "{name}\t{email}")?;
        let payload = format!(
            r#"{{"id":{number},"name":"{name}","email":"{email}","updated_at":"2026-01-02T03:04:05.678Z","version":1}}"#
        );
        writeln!(
            events,
            "{}\tuser_created\t{number}\t1\t{payload}",
            Uuid::now_v7()
        )?;
    }
    let started = Instant::now();
    let mut transaction = stack.pool().begin().await?;
    let tables = [
        ("copy users (name, email) from stdin", users),
        (
            "copy outbox (event_id, type, user_id, version, payload) from stdin",
            events,
        ),
    ];
    for (statement, rows) in tables {
        let mut copying = transaction.copy_in_raw(statement).await?;
        for part in rows.as_bytes().chunks(SENT_AT_ONCE) {
            copying.send(part).await?;
        }
        copying.finish().await?;
    }
    transaction.commit().await?;
    Ok(count as f64 / started.elapsed().as_secs_f64())
}

async fn import(count: usize, key: Option<Uuid>) -> anyhow::Result<f64> {
    let stack = Stack::new().await?;
    let service = stack.start("user-service", &["serve", "--no-relay"]);
    let address = ready(&service).await?;
    let mut body = String::new();
    for number in 1..=count {
        writeln!(
            body,
            r#"{{"name":"Ada Lovelace","email":"{}"}}"#,
            email(number)
        )?;
    }
    let started = Instant::now();
    let last = send(address, &body, key).await?;
    let rate = count as f64 / started.elapsed().as_secs_f64();
    ensure!(last.contains(&format!(r#""created":{count}"#)), "{last}");
    let written = "select (select count(*) from users), (select count(*) from outbox.event)";
    let written = sqlx::query(written).fetch_one(stack.pool()).await?;
    let written: (i64, i64) = (written.try_get(0)?, written.try_get(1)?);
    let expected = i64::try_from(count)?;
    ensure!(written == (expected, expected), "{written:?} rows");
    Ok(rate)
}

/// The last line of the answer, which is read while the body is sent.
async fn send(address: SocketAddr, body: &str, key: Option<Uuid>) -> anyhow::Result<String> {
    let (answer, mut request) = TcpStream::connect(address).await?.into_split();
    let key = key.map_or(String::new(), |key| format!("idempotency-key: {key}\r\n"));
    let head = format!(
        "POST /users/import HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/x-ndjson\r\n\
         {key}content-length: {}\r\n\r\n",
        body.len()
    );
    let sending = async {
        request.write_all(head.as_bytes()).await?;
        request.write_all(body.as_bytes()).await?;
        anyhow::Ok(())
    };
    let receiving = async {
        let mut lines = BufReader::new(answer).lines();
        while let Some(line) = lines.next_line().await? {
            if line.starts_with(r#"{"done""#) || line.starts_with(r#"{"broken_off""#) {
                return Ok(line);
            }
        }
        anyhow::bail!("the answer has no last line")
    };
    let ((), last) = futures::future::try_join(sending, receiving)
        .await
        .context("importing")?;
    Ok(last)
}

fn email(number: usize) -> String {
    format!("user{number}@example.com")
}
