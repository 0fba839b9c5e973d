//! Faults of the cluster that `scripts/cluster` has started.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use cluster_tests::{
    cluster::Cluster,
    faults::{self, Damage, Fault},
};
use fastrand::Rng;
use tokio::{
    fs,
    time::{Instant, sleep},
};

use crate::{
    endpoints::Endpoints,
    proof::Proof,
    report::{Round, Struck},
};

const AT_ONCE: std::ops::RangeInclusive<usize> = 1..=3;
const LONGEST_PAUSE_MS: u64 = 3000;
/// So long there may be no primary or leader that a fault could be of.
const STRIKE_DEADLINE: Duration = Duration::from_secs(30);
const RECOVERY_DEADLINE: Duration = Duration::from_secs(180);
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// One to three faults, one after the other, and then the end of all.
pub(crate) async fn round(
    cluster: &Arc<Cluster>,
    proof: &Proof,
    mut rng: Rng,
    most: usize,
) -> anyhow::Result<Round> {
    let all: Vec<_> = (faults::all().into_iter())
        .filter(|fault| fault.name != "none")
        .collect();
    let mut struck = Vec::new();
    let mut damages = Vec::new();
    for _ in 0..rng.usize(AT_ONCE).min(most) {
        let fault = &all[rng.usize(..all.len())];
        damages.push(strike(cluster, fault).await?);
        struck.push(Struck {
            kind: fault.name.to_owned(),
            what: fault.name.to_owned(),
        });
        sleep(Duration::from_millis(rng.u64(..LONGEST_PAUSE_MS))).await;
    }
    let lasts = damages.iter().map(|damage| damage.at_least).max();
    sleep(lasts.unwrap_or_default()).await;
    for damage in damages {
        damage.mend(cluster).await.context("mending")?;
    }
    let healed = Instant::now();
    let recovered = cluster.ready(RECOVERY_DEADLINE).await;
    let ready = healed.elapsed();
    let mut violations = Vec::new();
    violations.extend(recovered.err().map(|error| format!("{error:#}")));
    violations.extend(proof.check().await?);
    Ok(Round {
        faults: struck,
        acknowledged: proof.acknowledged(),
        ready,
        checked: healed.elapsed() - ready,
        is_reconciled_by_hand: false,
        violations,
    })
}

/// What it is to be of may have no leader at the moment, or may not run yet again.
async fn strike(cluster: &Arc<Cluster>, fault: &Fault) -> anyhow::Result<Damage> {
    let begin = Instant::now();
    loop {
        match (fault.strike)(Arc::clone(cluster)).await {
            Err(_) if begin.elapsed() < STRIKE_DEADLINE => sleep(POLL_INTERVAL).await,
            outcome => return outcome.with_context(|| fault.name),
        }
    }
}

pub(crate) async fn endpoints(cluster: &Cluster) -> anyhow::Result<Endpoints> {
    let password = password(&cluster.state_dir).await?;
    let postgres = cluster.port("POSTGRES_PORT")?;
    let members = cluster.port("MEMBER_PORTS")?;
    let member = |offset| format!("http://127.0.0.1:{}", members + offset);
    Ok(Endpoints {
        users: vec![cluster.users.clone()],
        notifications: vec![cluster.notifications.clone()],
        users_direct: [13, 14].map(member).to_vec(),
        notifications_direct: [15, 16].map(member).to_vec(),
        postgres: format!("postgres://postgres:{password}@127.0.0.1:{postgres}/users_db"),
        nats: cluster.setting("NATS_URL")?.to_owned(),
        mongodb: cluster.setting("MONGODB_URI")?.to_owned(),
        mongodb_database: "notifications_db".to_owned(),
        stream: "USER_EVENTS".to_owned(),
        consumer: "notification-service".to_owned(),
    })
}

/// From a line `*:*:*:postgres:PASSWORD`.
async fn password(state_dir: &Path) -> anyhow::Result<String> {
    let file = state_dir.join("cluster.pgpass");
    let text = fs::read_to_string(&file).await;
    let text = text.with_context(|| file.display().to_string())?;
    let password = text.trim().rsplit(':').next().context("a password")?;
    Ok(password.to_owned())
}
