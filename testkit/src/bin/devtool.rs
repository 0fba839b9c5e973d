//! What the scripts need from the servers and cannot ask of `curl`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use chrono::Local;
use clap::{Parser, Subcommand};
use futures::StreamExt;
use mongodb::bson::{Document, doc};
use mongodb::options::ClientOptions;
use testkit::fuzzing::corpus;
use tokio::time::{Instant, sleep};

#[derive(Debug, Parser)]
#[command(about = "Helps the scripts with the servers")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a replica set of the servers that the URI names, and wait until one accepts writes
    InitReplicaSet {
        #[arg(long, env = "MONGODB_URI", hide_env_values = true)]
        mongodb_uri: String,
    },
    /// Make a new database on the Postgres of `TEST_DATABASE_URL` and print its URL
    CreateDatabase,
    /// Print each message of a subject as it passes: local time, event id, body
    Watch {
        #[arg(
            long,
            env = "NATS_URL",
            hide_env_values = true,
            default_value = "nats://localhost:4222"
        )]
        nats_url: String,
        #[arg(long, default_value = "user.events")]
        subject: String,
        /// Stop after this many messages [default: never]
        #[arg(long)]
        count: Option<usize>,
    },
    /// Write each input of a fuzz target's corpus into a file of its own
    UnpackCorpus { target: String, directory: PathBuf },
    /// Add the inputs in the files of a directory to the corpus of a fuzz target
    PackCorpus { target: String, directory: PathBuf },
    /// Print the inputs in the files of a directory as lines for a corpus
    PrintInputs { directory: PathBuf },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::InitReplicaSet { mongodb_uri } => init_replica_set(&mongodb_uri).await,
        Command::CreateDatabase => {
            println!("{}", testkit::postgres::Database::create().await.url);
            Ok(())
        }
        Command::Watch {
            nats_url,
            subject,
            count,
        } => watch(&nats_url, subject, count).await,
        Command::UnpackCorpus { target, directory } => {
            corpus::unpack(&target, &directory).context("unpacking the corpus")
        }
        Command::PackCorpus { target, directory } => {
            corpus::pack(&target, &directory).context("packing the corpus")
        }
        Command::PrintInputs { directory } => {
            corpus::lines_of(&directory)?
                .iter()
                .for_each(|line| println!("{line}"));
            Ok(())
        }
    }
}

const REPLICA_SET: &str = "rs0";
const PRIMARY_DEADLINE: Duration = Duration::from_secs(30);
/// Members elect another primary after so long without a word from theirs; the default is ten seconds.
const ELECTION_TIMEOUT_MS: i32 = 4000;
const POLL_INTERVAL: Duration = Duration::from_millis(50);

async fn init_replica_set(uri: &str) -> anyhow::Result<()> {
    let mut options = ClientOptions::parse(uri).await?;
    options.server_selection_timeout = Some(PRIMARY_DEADLINE);
    let hosts: Vec<_> = options.hosts.iter().map(ToString::to_string).collect();
    let mut first = options.clone();
    // A member without a configuration belongs to no set yet and is only found by its address.
    first.hosts.truncate(1);
    first.direct_connection = Some(true);
    first.repl_set_name = None;
    let admin = mongodb::Client::with_options(first)?.database("admin");

    match admin
        .run_command(doc! { "replSetInitiate": configuration(&hosts, 1) })
        .await
    {
        Ok(_) => {}
        Err(error) if is_already_initialized(&error) => adopt_addresses(&admin, &hosts).await?,
        Err(error) => return Err(error).context("replSetInitiate failed"),
    }
    // Any member of several may become the primary: the driver finds it.
    let set = match hosts.len() {
        1 => admin,
        _ => mongodb::Client::with_options(options)?.database("admin"),
    };
    wait_until_primary(&set).await
}

fn configuration(hosts: &[String], version: i32) -> Document {
    let members = (0..).zip(hosts).map(|(id, host): (i32, _)| {
        doc! { "_id": id, "host": host }
    });
    doc! {
        "_id": REPLICA_SET,
        "version": version,
        "members": members.collect::<Vec<_>>(),
        "settings": { "electionTimeoutMillis": ELECTION_TIMEOUT_MS },
    }
}

fn is_already_initialized(error: &mongodb::error::Error) -> bool {
    const ALREADY_INITIALIZED: i32 = 23;
    matches!(error.kind.as_ref(), mongodb::error::ErrorKind::Command(error) if error.code == ALREADY_INITIALIZED)
}

/// A data directory that now runs on another port still names the old one, and a member that does
/// not find itself in the configuration never becomes primary.
async fn adopt_addresses(admin: &mongodb::Database, hosts: &[String]) -> anyhow::Result<()> {
    let reply = admin.run_command(doc! { "replSetGetConfig": 1 }).await?;
    let current = reply.get_document("config")?;
    let is_ours = current
        .get_array("members")?
        .iter()
        .filter_map(|member| member.as_document()?.get_str("host").ok())
        .eq(hosts);
    if !is_ours {
        let next = configuration(hosts, current.get_i32("version")? + 1);
        admin
            .run_command(doc! { "replSetReconfig": next, "force": true })
            .await
            .context("replSetReconfig failed")?;
    }
    Ok(())
}

async fn wait_until_primary(admin: &mongodb::Database) -> anyhow::Result<()> {
    let deadline = Instant::now() + PRIMARY_DEADLINE;
    loop {
        let hello = admin.run_command(doc! { "hello": 1 }).await?;
        if hello.get_bool("isWritablePrimary").unwrap_or(false) {
            return Ok(());
        }
        anyhow::ensure!(
            Instant::now() < deadline,
            "the replica set has no primary after {PRIMARY_DEADLINE:?}"
        );
        sleep(POLL_INTERVAL).await;
    }
}

async fn watch(url: &str, subject: String, count: Option<usize>) -> anyhow::Result<()> {
    let client = async_nats::connect(url)
        .await
        .context("cannot connect to NATS")?;
    let messages = client.subscribe(subject.clone()).await?;
    // The server has the subscription once it has answered the flush: scripts wait for this line.
    client.flush().await?;
    eprintln!("watching {subject}");

    let mut messages = messages.take(count.unwrap_or(usize::MAX));
    while let Some(message) = messages.next().await {
        let id = message
            .headers
            .as_ref()
            .and_then(|headers| headers.get(async_nats::header::NATS_MESSAGE_ID))
            .map_or("-", |id| id.as_str());
        #[expect(clippy::disallowed_methods, reason = "it is shown to people only")]
        let now = Local::now().format("%H:%M:%S%.3f");
        let body = String::from_utf8_lossy(&message.payload);
        match writeln!(io::stdout(), "{now}  {id}  {body}") {
            // Who reads us has seen enough: `scripts/watch | head`.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            outcome => outcome?,
        }
    }
    Ok(())
}
