//! One comparison of the copy with the users in the background, beside what it costs the two servers
//! only to count them.

mod forwarder;

use anyhow::ensure;
use mongodb::bson::{DateTime, doc};
use serde_json::Value;
use sqlx::Row;
use testkit::Service;
use tokio::time::{Duration, Instant, sleep};

use self::forwarder::Forwarder;
use crate::{
    cpu::used_by,
    http::Connection,
    report::Report,
    stack::{Stack, ready},
};

const COPY: &str = "user_notifications";
const BATCH: i64 = 10_000;
const POLL: Duration = Duration::from_millis(20);

pub(crate) async fn run(quick: bool, report: &mut Report) -> anyhow::Result<()> {
    let (rounds, users) = if quick { (1, 50_000) } else { (3, 1_000_000) };
    let stack = Stack::new().await?;
    fill(&stack, users).await?;
    let api = stack.start("user-service", &["serve", "--no-relay"]);
    let address = ready(&api).await?;
    // So that the session that answers is there before what it costs is looked at.
    Connection::open(address)
        .await?
        .get("/users/digests?last=1")
        .await?;
    let forwarder = Forwarder::start(address).await?;

    let (mut postgres, mut mongodb) = (vec![], vec![]);
    let (mut commands, mut lists) = (vec![], vec![]);
    let mut passes = Passes::default();
    for _ in 0..rounds {
        postgres.push(milliseconds(count_users(&stack, users)).await?);
        mongodb.push(milliseconds(count_copies(&stack, users)).await?);
        passes.measure(&stack, &api, &forwarder, users).await?;
        let service = stack.start("notification-service", &["serve"]);
        let copies = format!("http://{}", ready(&service).await?);
        let sides = ["--users", &forwarder.url(), "--notifications", &copies];
        commands.push(milliseconds(verify(&stack, &sides, &[])).await?);
        lists.push(milliseconds(verify(&stack, &sides, &["--full"])).await?);
    }
    let both: Vec<f64> = (postgres.iter().zip(&mongodb))
        .map(|(postgres, mongodb)| postgres + mongodb)
        .collect();
    let counting = ("counting on both", &both[..]);
    report.add(
        format!("Postgres alone: count {users} users"),
        "ms",
        &postgres,
    );
    report.add("MongoDB alone: read and count their copies", "ms", &mongodb);
    report.add_beside(
        "a pass without a limit of its rate",
        "ms",
        &passes.elapsed,
        counting,
    );
    report.add(
        "of it, processor time of the service",
        "ms",
        &passes.service,
    );
    report.add("of sessions in Postgres", "ms", &passes.postgres);
    report.add("of MongoDB", "ms", &passes.mongodb);
    report.add("of the user service", "ms", &passes.users);
    report.add("transferred between the services", "KB", &passes.kilobytes);
    report.add_beside(
        "verify, by digests",
        "ms",
        &commands,
        ("verify --full", &lists[..]),
    );
    report.add("verify --full", "ms", &lists);
    Ok(())
}

/// The same users on both sides.
async fn fill(stack: &Stack, users: i64) -> anyhow::Result<()> {
    let insert = sqlx::query(
        "insert into users (id, name, email, normal_email, updated_at) overriding system value
         select id, 'Ada Lovelace', 'user' || id || '@example.com', 'user' || id || '@example.com',
                '2026-01-02'::timestamptz + id * interval '1 millisecond'
         from generate_series(1, $1) as id",
    );
    insert.bind(users).execute(stack.pool()).await?;
    sqlx::raw_sql("vacuum analyze users")
        .execute(stack.pool())
        .await?;
    let copy = stack.mongo.collection(COPY);
    for after in (0..users).step_by(usize::try_from(BATCH)?) {
        let rows = sqlx::query(
            "select id, name, email, (extract(epoch from updated_at) * 1000)::bigint as updated_at,
                    version
             from users where id > $1 and id <= $1 + $2",
        );
        let rows = rows.bind(after).bind(BATCH).fetch_all(stack.pool()).await?;
        let documents = rows.iter().map(|row| {
            let id: i64 = row.get("id");
            doc! {
                "_id": id, "user_id": id, "name": row.get::<String, _>("name"),
                "email": row.get::<String, _>("email"),
                "updated_at": DateTime::from_millis(row.get("updated_at")),
                "version": row.get::<i64, _>("version"),
            }
        });
        copy.insert_many(documents.collect::<Vec<_>>()).await?;
    }
    Ok(())
}

async fn milliseconds(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<f64> {
    let started = Instant::now();
    work.await?;
    Ok(started.elapsed().as_secs_f64() * 1000.0)
}

async fn count_users(stack: &Stack, users: i64) -> anyhow::Result<()> {
    let count: i64 = sqlx::query_scalar("select count(*) from users where name <> ''")
        .fetch_one(stack.pool())
        .await?;
    ensure!(count == users, "{count} users");
    Ok(())
}

async fn count_copies(stack: &Stack, users: i64) -> anyhow::Result<()> {
    let living = doc! { "name": { "$ne": "" } };
    let count = stack.mongo.collection(COPY).count_documents(living).await?;
    ensure!(count == users.unsigned_abs(), "{count} copies");
    Ok(())
}

async fn verify(stack: &Stack, sides: &[&str], more: &[&str]) -> anyhow::Result<()> {
    let arguments = [&["verify"], sides, more].concat();
    let mut command = stack.start("notification-service", &arguments);
    // It may take longer than a process is waited for.
    let is_done = |line: &String| line.contains(" copies: ") || line.contains("failed");
    while !command.process.output().iter().any(is_done) {
        sleep(POLL).await;
    }
    let succeeded = command.process.ended().await.success();
    ensure!(succeeded, "{:?}", command.process.output());
    Ok(())
}

#[derive(Default)]
struct Passes {
    elapsed: Vec<f64>,
    service: Vec<f64>,
    users: Vec<f64>,
    postgres: Vec<f64>,
    mongodb: Vec<f64>,
    kilobytes: Vec<f64>,
}

impl Passes {
    async fn measure(
        &mut self,
        stack: &Stack,
        api: &Service,
        forwarder: &Forwarder,
        users: i64,
    ) -> anyhow::Result<()> {
        let state = stack.mongo.collection("verification_state");
        state.drop().await?;
        let sessions = sessions(stack).await?;
        let postgres = || -> f64 { sessions.iter().map(|pid| used_by(pid)).sum() };
        let status = stack
            .mongo
            .database
            .run_command(doc! { "serverStatus": 1 })
            .await?;
        let mongod = status.get_i64("pid")?.to_string();
        let api = api.process.id().to_string();
        let before = (postgres(), used_by(&mongod), used_by(&api));
        let bytes = forwarder.bytes();

        let arguments = [
            "serve",
            "--verify-every",
            "30days",
            "--verify-rate",
            "10000000",
        ];
        let url = forwarder.url();
        let arguments = [&arguments[..], &["--verify-users", &url]].concat();
        let mut service = stack.start("notification-service", &arguments);
        let pass = last_pass(&service).await?;
        self.service
            .push(1000.0 * used_by(&service.process.id().to_string()));
        self.postgres.push(1000.0 * (postgres() - before.0));
        self.mongodb.push(1000.0 * (used_by(&mongod) - before.1));
        self.users.push(1000.0 * (used_by(&api) - before.2));
        self.kilobytes
            .push((forwarder.bytes() - bytes) as f64 / 1000.0);
        service.process.stop().await;
        ensure!(pass["users"] == users && pass["remaining"] == 0, "{pass}");
        let time = sqlx::query_scalar(
            "select 1000 * extract(epoch from $2::timestamptz - $1::timestamptz)::float8",
        );
        let time = time
            .bind(pass["began_at"].as_str())
            .bind(pass["ended_at"].as_str());
        self.elapsed.push(time.fetch_one(stack.pool()).await?);
        Ok(())
    }
}

/// From their pids; a session that is replaced meanwhile is not counted.
async fn sessions(stack: &Stack) -> anyhow::Result<Vec<String>> {
    let sessions = sqlx::query_scalar(
        "select pid::text from pg_stat_activity
         where datname = current_database() and application_name = 'user-service'",
    );
    Ok(sessions.fetch_all(stack.pool()).await?)
}

async fn last_pass(service: &Service) -> anyhow::Result<Value> {
    let address = ready(service).await?;
    let mut connection = Connection::open(address).await?;
    loop {
        let answer = connection.get("/verification").await?;
        let mut shown: Value = serde_json::from_slice(&answer.body)?;
        ensure!(shown["last_error"].is_null(), "{shown}");
        if shown["last_pass"].is_object() {
            return Ok(shown["last_pass"].take());
        }
        sleep(POLL).await;
    }
}
