//! What happens to the cluster.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use nix::{sys::signal::Signal, unistd::Pid};

use crate::{
    cluster::Cluster,
    processes::{children, pid_of, signal},
};

pub struct Fault {
    pub name: &'static str,
    pub strike: Strike,
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

pub type Strike =
    Box<dyn Fn(Arc<Cluster>) -> Pin<Box<dyn Future<Output = anyhow::Result<Damage>>>>>;

/// What was done, and how it is mended.
#[derive(Debug, Default)]
pub struct Damage {
    /// To be started again.
    ended: Vec<String>,
    stopped: Stopped,
    /// How long it lasts at least: longer than the fail-over takes.
    pub at_least: Duration,
}

/// They go on when this is dropped: whatever has come between, none stays stopped for good.
#[derive(Debug, Default)]
pub struct Stopped(Vec<Pid>);

impl Stopped {
    /// Stops a process and its children: they hold what they have, and do nothing.
    ///
    /// # Errors
    /// If it may not be stopped. One that has ended is left out.
    pub fn with_children(&mut self, pid: Pid) -> anyhow::Result<()> {
        // First the one that makes the others.
        self.stop(pid)?;
        for child in children(pid)? {
            self.stop(child)?;
        }
        Ok(())
    }

    fn stop(&mut self, pid: Pid) -> anyhow::Result<()> {
        self.0.push(pid);
        signal(pid, Signal::SIGSTOP)
    }
}

/// A lost Patroni is felt within two seconds, when the proxies notice.
const KILLED_FOR: Duration = Duration::from_secs(5);
/// Patroni's `ttl` and `loop_wait`, and some.
const STOPPED_FOR: Duration = Duration::from_secs(20);

impl Damage {
    pub async fn mend(self, cluster: &Cluster) -> anyhow::Result<()> {
        drop(self.stopped);
        match self.ended.is_empty() {
            true => Ok(()),
            false => cluster.start(&self.ended).await,
        }
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        for pid in &self.0 {
            if let Err(error) = signal(*pid, Signal::SIGCONT) {
                println!("{pid} stays stopped: {error:#}");
            }
        }
    }
}

#[must_use]
pub fn all() -> Vec<Fault> {
    vec![
        // What the machine does without any.
        fault("none", async |_| {
            Ok(Damage {
                at_least: KILLED_FOR,
                ..Damage::default()
            })
        }),
        fault("kill-postgres-primary", async |it| {
            kill(&it, &[format!("postgres-{}", it.postgres_primary().await?)])
        }),
        fault("kill-postgres-standby", async |it| {
            let standby = 3 - it.postgres_primary().await?;
            kill(&it, &[format!("postgres-{standby}")])
        }),
        fault("kill-patroni-of-primary", async |it| {
            kill(&it, &[format!("patroni-{}", it.postgres_primary().await?)])
        }),
        fault("kill-patroni-of-standby", async |it| {
            let standby = 3 - it.postgres_primary().await?;
            kill(&it, &[format!("patroni-{standby}")])
        }),
        fault("kill-host-of-postgres-primary", async |it| {
            let primary = it.postgres_primary().await?;
            kill(&it, &of_number(&["patroni", "postgres"], primary))
        }),
        fault("kill-host-of-postgres-standby", async |it| {
            let standby = 3 - it.postgres_primary().await?;
            kill(&it, &of_number(&["patroni", "postgres"], standby))
        }),
        kill_member("kill-etcd-1", "etcd-1"),
        kill_member("kill-etcd-2", "etcd-2"),
        kill_member("kill-etcd-3", "etcd-3"),
        kill_member("kill-haproxy-1", "haproxy-1"),
        kill_member("kill-haproxy-2", "haproxy-2"),
        fault("kill-nats-stream-leader", async |it| {
            kill(&it, &[format!("nats-{}", it.stream_leader().await?)])
        }),
        fault("kill-nats-first-follower", async |it| {
            kill(
                &it,
                &[format!("nats-{}", other(it.stream_leader().await?, 1))],
            )
        }),
        fault("kill-nats-second-follower", async |it| {
            kill(
                &it,
                &[format!("nats-{}", other(it.stream_leader().await?, 2))],
            )
        }),
        fault("kill-mongodb-primary", async |it| {
            kill(&it, &[format!("mongodb-{}", it.mongodb_primary().await?)])
        }),
        fault("kill-mongodb-first-secondary", async |it| {
            let member = other(it.mongodb_primary().await?, 1);
            kill(&it, &[format!("mongodb-{member}")])
        }),
        fault("kill-mongodb-second-secondary", async |it| {
            let member = other(it.mongodb_primary().await?, 2);
            kill(&it, &[format!("mongodb-{member}")])
        }),
        kill_member("kill-user-service-1", "user-service-1"),
        kill_member("kill-user-service-2", "user-service-2"),
        kill_member("kill-notification-service-1", "notification-service-1"),
        kill_member("kill-notification-service-2", "notification-service-2"),
        fault("kill-one-of-each-kind", async |it| {
            let primary = it.postgres_primary().await?;
            let mut members = of_number(&["patroni", "postgres"], primary);
            members.push(format!("nats-{}", it.stream_leader().await?));
            members.push(format!("mongodb-{}", it.mongodb_primary().await?));
            let kinds = ["etcd", "haproxy", "user-service", "notification-service"];
            members.extend(of_number(&kinds, 1));
            kill(&it, &members)
        }),
        fault("freeze-postgres-primary", async |it| {
            freeze(&it, &[format!("postgres-{}", it.postgres_primary().await?)])
        }),
        fault("freeze-host-of-postgres-primary", async |it| {
            let primary = it.postgres_primary().await?;
            freeze(&it, &of_number(&["patroni", "postgres"], primary))
        }),
        fault("freeze-postgres-standby", async |it| {
            let standby = 3 - it.postgres_primary().await?;
            freeze(&it, &[format!("postgres-{standby}")])
        }),
        fault("freeze-nats-stream-leader", async |it| {
            freeze(&it, &[format!("nats-{}", it.stream_leader().await?)])
        }),
        fault("freeze-mongodb-primary", async |it| {
            freeze(&it, &[format!("mongodb-{}", it.mongodb_primary().await?)])
        }),
        freeze_member("freeze-user-service-1", "user-service-1"),
        freeze_member("freeze-notification-service-1", "notification-service-1"),
        fault("planned-switchover", async |it| {
            it.switch_over().await?;
            Ok(Damage {
                at_least: KILLED_FOR,
                ..Damage::default()
            })
        }),
    ]
}

fn fault<F>(name: &'static str, strike: impl Fn(Arc<Cluster>) -> F + 'static) -> Fault
where
    F: Future<Output = anyhow::Result<Damage>> + 'static,
{
    Fault {
        name,
        strike: Box::new(move |cluster| Box::pin(strike(cluster))),
    }
}

fn kill_member(name: &'static str, member: &'static str) -> Fault {
    fault(
        name,
        move |it| async move { kill(&it, &[member.to_owned()]) },
    )
}

fn freeze_member(name: &'static str, member: &'static str) -> Fault {
    fault(
        name,
        move |it| async move { freeze(&it, &[member.to_owned()]) },
    )
}

/// SIGKILL, to all at once. Patroni starts its PostgreSQL server again.
fn kill(cluster: &Cluster, members: &[String]) -> anyhow::Result<Damage> {
    for member in members {
        signal(pid_of(&cluster.state_dir, member)?, Signal::SIGKILL)?;
    }
    let ended = members.iter().filter(|name| !name.starts_with("postgres-"));
    Ok(Damage {
        ended: ended.cloned().collect(),
        at_least: KILLED_FOR,
        ..Damage::default()
    })
}

/// SIGSTOP, to the children as well: they hold connections, and answer nothing.
fn freeze(cluster: &Cluster, members: &[String]) -> anyhow::Result<Damage> {
    let mut stopped = Stopped::default();
    for member in members {
        stopped.with_children(pid_of(&cluster.state_dir, member)?)?;
    }
    Ok(Damage {
        stopped,
        at_least: STOPPED_FOR,
        ..Damage::default()
    })
}

fn of_number(kinds: &[&str], number: u16) -> Vec<String> {
    kinds
        .iter()
        .map(|kind| format!("{kind}-{number}"))
        .collect()
}

/// Another of three.
fn other(number: u16, distance: u16) -> u16 {
    (number - 1 + distance) % 3 + 1
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use nix::unistd::Pid;

    use super::Stopped;

    fn is_stopped(pid: u32) -> bool {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
        stat.contains(") T ")
    }

    /// As when a fault before has killed it.
    #[test]
    fn what_has_ended_can_be_stopped() {
        let mut process = Command::new("true").spawn().expect("a process");
        process.wait().expect("an end");
        let raw = i32::try_from(process.id()).expect("a pid");
        let mut stopped = Stopped::default();
        let outcome = stopped.with_children(Pid::from_raw(raw));
        outcome.expect("nothing to stop");
    }

    #[test]
    fn what_was_stopped_goes_on_when_a_fault_is_given_up() {
        let mut process = Command::new("sleep")
            .arg("3600")
            .spawn()
            .expect("a process");
        let pid = process.id();
        let mut stopped = Stopped::default();
        let raw = i32::try_from(pid).expect("a pid");
        stopped.with_children(Pid::from_raw(raw)).expect("a signal");
        while !is_stopped(pid) {
            std::thread::yield_now();
        }
        drop(stopped);
        while is_stopped(pid) {
            std::thread::yield_now();
        }
        process.kill().expect("a signal");
        process.wait().expect("an end");
    }
}
