//! A replica set of three of the test's own, which can elect, fall behind and roll back.

use ::mongodb::{
    Database,
    bson::{Document, doc},
};
use tempfile::TempDir;

use super::{direct, is_primary, spawn};
use crate::{Process, eventually, free_port};

const MEMBERS: usize = 3;
/// For fail points.
const TEST_COMMANDS: [&str; 2] = ["--setParameter", "enableTestCommands=1"];

/// Each member has a tag `member` with its number, for read preferences.
#[derive(Debug)]
pub struct ReplicaSet {
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    port: u16,
    data: TempDir,
    process: Option<Process>,
}

impl ReplicaSet {
    /// # Panics
    /// If there is no primary with two secondaries within a minute.
    pub async fn start() -> Self {
        let member = |_| Member {
            port: free_port(),
            data: tempfile::tempdir().expect("a temporary directory"),
            process: None,
        };
        let mut set = Self {
            members: (0..MEMBERS).map(member).collect(),
        };
        for member in &mut set.members {
            member.start();
        }
        let first = set.admin(0).await;
        eventually("a replica set", async || {
            let initiate = doc! { "replSetInitiate": set.configuration() };
            first.run_command(initiate).await.ok()
        })
        .await;
        set.healthy().await;
        set
    }

    /// Of all members.
    #[must_use]
    pub fn uri(&self) -> String {
        let hosts: Vec<_> = self.members.iter().map(Member::host).collect();
        format!("mongodb://{}/?replicaSet=rs0", hosts.join(","))
    }

    /// The number of the primary.
    ///
    /// # Panics
    /// If there is none within a minute.
    pub async fn primary(&self) -> usize {
        eventually("a primary", async || {
            for member in self.running() {
                if is_primary(&self.admin(member).await).await.is_some() {
                    return Some(member);
                }
            }
            None
        })
        .await
    }

    /// The numbers of all others.
    ///
    /// # Panics
    /// If there is no primary within a minute.
    pub async fn secondaries(&self) -> Vec<usize> {
        let primary = self.primary().await;
        (0..MEMBERS).filter(|it| *it != primary).collect()
    }

    /// The database `admin` of one member, whatever its state.
    pub async fn admin(&self, member: usize) -> Database {
        direct(self.members[member].port).await
    }

    /// Waits until there is a primary with two secondaries.
    ///
    /// # Panics
    /// If there is none within a minute.
    pub async fn healthy(&self) {
        eventually("a primary and two secondaries", async || {
            let mut states = Vec::new();
            for member in self.running() {
                let admin = self.admin(member).await;
                let hello = admin.run_command(doc! { "hello": 1 }).await.ok()?;
                let is = |role| hello.get_bool(role).unwrap_or(false);
                states.push((is("isWritablePrimary"), is("secondary")));
            }
            let primaries = states.iter().filter(|it| it.0).count();
            let secondaries = states.iter().filter(|it| it.1).count();
            (primaries == 1 && secondaries == MEMBERS - 1).then_some(())
        })
        .await;
    }

    /// The primary gives up its place; another one is elected.
    ///
    /// # Panics
    /// If none is within a minute.
    pub async fn step_down(&self) {
        let former = self.primary().await;
        let admin = self.admin(former).await;
        let step_down = doc! { "replSetStepDown": 5, "secondaryCatchUpPeriodSecs": 4 };
        eventually("a primary that steps down", async || {
            admin.run_command(step_down.clone()).await.ok()
        })
        .await;
        eventually("another primary", async || {
            (self.primary().await != former).then_some(())
        })
        .await;
    }

    /// From now on the member applies nothing that others have written, and acknowledges nothing.
    ///
    /// # Panics
    /// If it does not stop within a minute.
    pub async fn stop_replication(&self, member: usize) {
        let admin = self.admin(member).await;
        let stop = doc! { "configureFailPoint": FAIL_POINT, "mode": "alwaysOn" };
        let reply = admin.run_command(stop).await.expect("a fail point");
        let times = reply.get_i32("count").expect("a count") + 1;
        let wait = doc! {
            "waitForFailPoint": FAIL_POINT, "timesEntered": times, "maxTimeMS": 60_000,
        };
        admin.run_command(wait).await.expect("a member that stops");
    }

    /// # Panics
    /// If the member can't be told.
    pub async fn resume_replication(&self, member: usize) {
        let resume = doc! { "configureFailPoint": FAIL_POINT, "mode": "off" };
        let resumed = self.admin(member).await.run_command(resume).await;
        resumed.expect("no fail point");
    }

    /// SIGKILL.
    pub fn kill(&mut self, member: usize) {
        let process = self.members[member].process.take();
        process.expect("the member runs").kill();
    }

    /// After [`ReplicaSet::kill`], with the same data.
    pub fn restart(&mut self, member: usize) {
        self.members[member].start();
    }

    fn running(&self) -> impl Iterator<Item = usize> {
        let members = self.members.iter().enumerate();
        members
            .filter(|(_, member)| member.process.is_some())
            .map(|(number, _)| number)
    }

    fn configuration(&self) -> Document {
        let member = |(number, member): (usize, &Member)| {
            let number = i32::try_from(number).expect("a small number");
            doc! {
                "_id": number, "host": member.host(), "tags": { "member": number.to_string() },
            }
        };
        let members: Vec<_> = self.members.iter().enumerate().map(member).collect();
        doc! {
            "_id": "rs0",
            "members": members,
            "settings": {
                "heartbeatIntervalMillis": 500,
                // Who has been elected stays.
                "catchUpTakeoverDelayMillis": -1,
            },
        }
    }
}

const FAIL_POINT: &str = "rsSyncApplyStop";

impl Member {
    fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn start(&mut self) {
        let arguments = TEST_COMMANDS.map(str::to_owned);
        self.process = Some(spawn(self.port, &self.data, &arguments));
    }
}
