//! MongoDB: a database for each test, or a server.

mod replica_set;

use std::{env, path::Path};

use ::mongodb::{
    Client,
    bson::{Document, doc},
    options::ClientOptions,
};
use tempfile::TempDir;

use crate::{Process, copy_directory, eventually, free_port, required, unique};

pub use self::replica_set::ReplicaSet;

/// `AlreadyInitialized`
const ALREADY_INITIALIZED: i32 = 23;

/// A database that no other test knows.
#[derive(Debug, Clone)]
pub struct Database {
    pub uri: String,
    pub name: String,
    pub database: ::mongodb::Database,
}

impl Database {
    /// On the shared server.
    ///
    /// # Panics
    /// If its URI is not valid.
    pub async fn create() -> Self {
        Self::create_at(required("TEST_MONGODB_URI")).await
    }

    /// # Panics
    /// If the URI is not valid.
    pub async fn create_at(uri: String) -> Self {
        let client = Client::with_uri_str(&uri).await.expect("a MongoDB URI");
        let name = unique("test");
        let database = client.database(&name);
        Self {
            uri,
            name,
            database,
        }
    }

    #[must_use]
    pub fn collection(&self, name: &str) -> ::mongodb::Collection<Document> {
        self.database.collection(name)
    }
}

/// A server of the test's own, the only member of its replica set.
#[derive(Debug)]
pub struct Server {
    port: u16,
    data: TempDir,
    arguments: Vec<String>,
    process: Option<Process>,
}

impl Server {
    /// # Panics
    /// If it can't be written to within a minute.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With further arguments, such as a `--setParameter`.
    ///
    /// # Panics
    /// If it can't be written to within a minute.
    pub async fn start_with(arguments: &[&str]) -> Self {
        Self::start_within(&env::temp_dir(), arguments).await
    }

    /// With all that it writes in this directory; backups as well.
    ///
    /// # Panics
    /// If it can't be written to within a minute.
    pub async fn start_within(directory: &Path, arguments: &[&str]) -> Self {
        let mut server = Self {
            port: free_port(),
            data: tempfile::tempdir_in(directory).expect("a temporary directory"),
            arguments: arguments.iter().map(ToString::to_string).collect(),
            process: None,
        };
        server.restart().await;
        server
    }

    #[must_use]
    pub fn uri(&self) -> String {
        format!("mongodb://127.0.0.1:{}/?replicaSet=rs0", self.port)
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// # Panics
    /// If it is down.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the server runs")
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process().kill();
        self.process = None;
    }

    /// A copy of what it stores, as if it had been killed now. It is frozen meanwhile.
    ///
    /// # Panics
    /// If it is down, or its data can't be copied.
    pub fn backup(&mut self) -> Backup {
        let process = self.process();
        process.freeze();
        let beside = self.data.path().parent().expect("a directory");
        let backup = tempfile::tempdir_in(beside).expect("a temporary directory");
        copy_directory(self.data.path(), backup.path());
        self.process().thaw();
        Backup(backup)
    }

    /// Starts it on the same port with what the backup has, after [`Server::kill`].
    ///
    /// # Panics
    /// If it can't be written to within a minute.
    pub async fn restore(&mut self, backup: Backup) {
        self.data = backup.0;
        self.restart().await;
    }

    /// Starts it on the same port with the same data, after [`Server::kill`].
    ///
    /// # Panics
    /// If it can't be written to within a minute.
    pub async fn restart(&mut self) {
        self.process = Some(spawn(self.port, &self.data, &self.arguments));
        let admin = direct(self.port).await;
        eventually("a replica set", async || initiate(&admin, self.port).await).await;
        eventually("a primary", async || is_primary(&admin).await).await;
    }
}

/// What a server stored at one moment.
#[derive(Debug)]
pub struct Backup(TempDir);

fn spawn(port: u16, data: &TempDir, further: &[String]) -> Process {
    let port = port.to_string();
    let data = data.path().to_str().expect("a path in UTF-8");
    let mut arguments = vec![
        "--dbpath",
        data,
        "--bind_ip",
        "127.0.0.1",
        "--port",
        &port,
        "--nounixsocket",
        "--replSet",
        "rs0",
        "--wiredTigerCacheSizeGB",
        "0.25",
        "--oplogSize",
        "64",
    ];
    arguments.extend(further.iter().map(String::as_str));
    Process::spawn(&required("MONGOD_BIN"), &arguments, &[])
}

async fn direct(port: u16) -> ::mongodb::Database {
    let uri = format!("mongodb://127.0.0.1:{port}/?directConnection=true");
    let mut options = ClientOptions::parse(uri).await.expect("a MongoDB URI");
    options.server_selection_timeout = Some(std::time::Duration::from_secs(1));
    Client::with_options(options)
        .expect("valid options")
        .database("admin")
}

async fn initiate(admin: &::mongodb::Database, port: u16) -> Option<()> {
    let member = doc! { "_id": 0, "host": format!("127.0.0.1:{port}") };
    let command = doc! { "replSetInitiate": { "_id": "rs0", "members": [member] } };
    match admin.run_command(command).await {
        Ok(_) => Some(()),
        Err(error) => match *error.kind {
            ::mongodb::error::ErrorKind::Command(error) if error.code == ALREADY_INITIALIZED => {
                Some(())
            }
            _ => None,
        },
    }
}

async fn is_primary(admin: &::mongodb::Database) -> Option<()> {
    let hello = admin.run_command(doc! { "hello": 1 }).await.ok()?;
    hello.get_bool("isWritablePrimary").ok()?.then_some(())
}
