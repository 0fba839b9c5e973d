//! Whether a server answers at all.

use std::time::Duration;

use anyhow::ensure;
use futures::future::select_ok;
use mongodb::{bson::doc, options::ClientOptions};
use sqlx::{Connection, PgConnection};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpStream,
    time::timeout,
};

use crate::endpoints::Endpoints;

const ANSWER_DEADLINE: Duration = Duration::from_secs(1);
/// Postgres starts, stops or recovers.
const NOT_NOW: &str = "57P03";

#[derive(Debug)]
pub(super) enum Server {
    Postgres(Postgres),
    /// Of which one suffices.
    Nats(Vec<String>),
    Mongodb(mongodb::Client),
}

impl Server {
    /// Each with the time after which those who need it must have noticed that it is away.
    pub(super) async fn all(
        endpoints: &Endpoints,
    ) -> anyhow::Result<[(Self, Duration, &'static str); 3]> {
        let postgres = Self::Postgres(Postgres {
            url: endpoints.postgres.clone(),
            connection: None,
        });
        let nats = endpoints.nats.split(',').map(address).collect();
        let nats = Self::Nats(nats);
        let mut options = ClientOptions::parse(&endpoints.mongodb).await?;
        options.server_selection_timeout = Some(ANSWER_DEADLINE);
        let mongodb = Self::Mongodb(mongodb::Client::with_options(options)?);
        // A check of a database is at most a second old, and takes less than one. The projector is
        // late when it has heard nothing for 15 s.
        Ok([
            (postgres, Duration::from_secs(5), "user service"),
            (mongodb, Duration::from_secs(5), "notification service"),
            (nats, Duration::from_secs(20), "notification service"),
        ])
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "Postgres",
            Self::Nats(_) => "NATS",
            Self::Mongodb(_) => "MongoDB",
        }
    }

    pub(super) async fn answers(&mut self) -> bool {
        let asking = async {
            match self {
                Self::Postgres(postgres) => postgres.ask().await,
                Self::Nats(addresses) => ask_any_nats(addresses).await,
                Self::Mongodb(client) => {
                    let admin = client.database("admin");
                    Ok(admin.run_command(doc! { "ping": 1 }).await.map(drop)?)
                }
            }
        };
        matches!(timeout(ANSWER_DEADLINE, asking).await, Ok(Ok(())))
    }
}

/// Asked over one connection for as long as that lasts, as the services do: the server may be unable to take
/// new ones, and do all else.
#[derive(Debug)]
pub(super) struct Postgres {
    url: String,
    connection: Option<PgConnection>,
}

impl Postgres {
    async fn ask(&mut self) -> anyhow::Result<()> {
        match self.try_ask().await {
            // It answers, if only that it refuses.
            Err(sqlx::Error::Database(error)) if error.code().as_deref() != Some(NOT_NOW) => Ok(()),
            Err(error) => {
                self.connection = None;
                Err(error.into())
            }
            Ok(()) => Ok(()),
        }
    }

    async fn try_ask(&mut self) -> sqlx::Result<()> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(PgConnection::connect(&self.url).await?),
        };
        sqlx::query("select 1").execute(connection).await.map(drop)
    }
}

async fn ask_any_nats(addresses: &[String]) -> anyhow::Result<()> {
    let asking = addresses.iter().map(|address| Box::pin(ask_nats(address)));
    select_ok(asking).await.map(drop)
}

async fn ask_nats(address: &str) -> anyhow::Result<()> {
    let mut stream = BufReader::new(TcpStream::connect(address).await?);
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    ensure!(line.starts_with("INFO"), "no NATS server: {line}");
    Ok(())
}

/// Without scheme and credentials.
fn address(url: &str) -> String {
    let authority = url.rsplit(['/', '@']).next();
    authority.unwrap_or(url).to_owned()
}
