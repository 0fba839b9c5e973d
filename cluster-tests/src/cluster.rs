//! The cluster that `scripts/cluster` has started: where its members are, and who leads.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use mongodb::bson::{Document, doc};
use reqwest::Client;
use tokio::{
    fs,
    process::Command,
    time::{Instant, sleep},
};

#[derive(Debug)]
pub struct Cluster {
    pub state_dir: PathBuf,
    pub users: String,
    pub notifications: String,
    pub http: Client,
    script: PathBuf,
    settings: HashMap<String, String>,
}

const POLL_INTERVAL: Duration = Duration::from_millis(100);

impl Cluster {
    pub async fn open(state_dir: &Path, script: &Path) -> anyhow::Result<Self> {
        let file = state_dir.join("settings");
        let text = fs::read_to_string(&file).await;
        let text = text.with_context(|| format!("no cluster runs: {}", file.display()))?;
        // As bash's printf %q writes them: a backslash before what the shell would take otherwise.
        let settings: HashMap<_, _> = (text.lines())
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.replace('\\', "")))
            .collect();
        let setting = |name: &str| settings.get(name).cloned().context(name.to_owned());
        Ok(Self {
            state_dir: state_dir.to_owned(),
            users: setting("USER_URL")?,
            notifications: setting("NOTIFICATION_URL")?,
            // Somebody who does not wait long, and asks again.
            http: Client::builder().timeout(Duration::from_secs(5)).build()?,
            script: script.to_owned(),
            settings,
        })
    }

    /// Of which only the user service is there, for tests of clients.
    #[must_use]
    pub fn of_users(url: String) -> Self {
        Self {
            state_dir: PathBuf::new(),
            users: url,
            notifications: String::new(),
            http: Client::new(),
            script: PathBuf::new(),
            settings: HashMap::new(),
        }
    }

    /// Of the two PostgreSQL servers, the one that Patroni says is the primary.
    pub async fn postgres_primary(&self) -> anyhow::Result<u16> {
        for number in [1, 2] {
            if self.patroni_says(number, "primary").await {
                return Ok(number);
            }
        }
        bail!("PostgreSQL has no primary");
    }

    /// Of the three NATS servers, the one that leads the stream.
    pub async fn stream_leader(&self) -> anyhow::Result<u16> {
        let servers = self.setting("NATS_URL")?.split(',').map(str::parse);
        let servers: Vec<async_nats::ServerAddr> = servers.collect::<Result<_, _>>()?;
        let nats = async_nats::connect(servers).await?;
        let jetstream = async_nats::jetstream::new(nats);
        let stream = jetstream.get_stream("USER_EVENTS").await?;
        let cluster = stream.cached_info().cluster.clone();
        let leader = cluster.and_then(|cluster| cluster.leader);
        let leader = leader.context("the stream has no leader")?;
        let number = leader.rsplit('-').next().context("a server's name")?;
        Ok(number.parse()?)
    }

    /// Of the three MongoDB servers, the primary.
    pub async fn mongodb_primary(&self) -> anyhow::Result<u16> {
        let hello = self.mongodb(doc! { "hello": 1 }).await?;
        let (_, port) = hello
            .get_str("primary")?
            .rsplit_once(':')
            .context("a port")?;
        Ok(port.parse::<u16>()? - self.port("MONGODB_PORT")? + 1)
    }

    /// Starts members again that have ended.
    pub async fn start(&self, members: &[String]) -> anyhow::Result<()> {
        self.run(&[&["start".to_owned()], members].concat()).await
    }

    /// Makes the standby the primary, as an operator would.
    pub async fn switch_over(&self) -> anyhow::Result<()> {
        let arguments = ["patronictl", "switchover", "users", "--force"];
        self.run(&arguments.map(ToOwned::to_owned)).await
    }

    async fn run(&self, arguments: &[String]) -> anyhow::Result<()> {
        let mut command = Command::new(&self.script);
        command.args(arguments).env("STATE_DIR", &self.state_dir);
        let output = command.output().await?;
        ensure!(output.status.success(), "{arguments:?}: {output:?}");
        Ok(())
    }

    /// Waits until every member does its work.
    pub async fn ready(&self, deadline: Duration) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            let Err(what) = self.is_ready().await else {
                return Ok(());
            };
            ensure!(started.elapsed() < deadline, "not ready: {what:#}");
            sleep(POLL_INTERVAL).await;
        }
    }

    async fn is_ready(&self) -> anyhow::Result<()> {
        let primary = self.postgres_primary().await?;
        let standby = 3 - primary;
        ensure!(
            self.patroni_says(standby, "sync").await,
            "postgres-{standby} is no synchronous standby"
        );
        let monitor = self.port("NATS_MONITOR_PORT")?;
        for port in monitor..monitor + 3 {
            self.answers(port, "healthz").await?;
        }
        let members = self.port("MEMBER_PORTS")?;
        for port in [13, 14, 15, 16].map(|offset| members + offset) {
            self.answers(port, "readyz").await?;
        }
        for service in [&self.users, &self.notifications] {
            let answer = self.http.get(format!("{service}/readyz")).send().await?;
            ensure!(answer.status() == 200, "{service} is not ready");
        }
        let status = self.mongodb(doc! { "replSetGetStatus": 1 }).await?;
        for member in status.get_array("members")? {
            let member = member.as_document().context("a member")?;
            let (name, state) = (member.get_str("name")?, member.get_str("stateStr")?);
            ensure!(
                matches!(state, "PRIMARY" | "SECONDARY"),
                "{name} is {state}"
            );
        }
        Ok(())
    }

    async fn patroni_says(&self, number: u16, check: &str) -> bool {
        let port = self.port("MEMBER_PORTS").map(|first| first + 5 + number);
        match port {
            Ok(port) => self.answers(port, check).await.is_ok(),
            Err(_) => false,
        }
    }

    async fn answers(&self, port: u16, path: &str) -> anyhow::Result<()> {
        let request = self.http.get(format!("http://127.0.0.1:{port}/{path}"));
        let answer = request.timeout(Duration::from_secs(2)).send().await?;
        let status = answer.status();
        ensure!(status == 200, "port {port} answers {path} with {status}");
        Ok(())
    }

    /// Compares the copy with the users, without repairing anything.
    pub async fn verify(&self) -> anyhow::Result<()> {
        let program = std::env::current_exe()?.with_file_name("notification-service");
        let mut verify = Command::new(program);
        verify.args(["verify", "--users", &self.users]);
        verify.args(["--notifications", &self.notifications]);
        let output = verify.output().await?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "the copy does not agree: {said}");
        Ok(())
    }

    async fn mongodb(&self, command: Document) -> anyhow::Result<Document> {
        let uri = format!(
            "{}&serverSelectionTimeoutMS=3000",
            self.setting("MONGODB_URI")?
        );
        let client = mongodb::Client::with_uri_str(uri).await?;
        let answer = client.database("admin").run_command(command).await?;
        client.shutdown().await;
        Ok(answer)
    }

    pub fn port(&self, name: &str) -> anyhow::Result<u16> {
        Ok(self.setting(name)?.parse()?)
    }

    pub fn setting(&self, name: &str) -> anyhow::Result<&str> {
        let setting = self.settings.get(name).map(String::as_str);
        setting.with_context(|| format!("the cluster's settings have no {name}"))
    }
}
