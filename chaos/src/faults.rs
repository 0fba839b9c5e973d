//! What a fault does, for how long, and how it ends.

mod clients;
mod disks;
mod mongodb;
mod postgres;
mod processes;
mod rebuild;
mod stream;
mod wires;

use anyhow::Context;

use crate::{
    plan::{Fault, Kind},
    proof::Proof,
    stack::Stack,
};

/// Strikes, and ends when the fault is over.
pub(crate) async fn strike(stack: &Stack, proof: &Proof, fault: &Fault) -> anyhow::Result<()> {
    let struck = async {
        match fault.kind {
            Kind::Kill => processes::kill(stack, fault).await,
            Kind::Freeze | Kind::Outage => processes::freeze(stack, fault).await,
            Kind::Cut
            | Kind::Stall
            | Kind::BlackHole
            | Kind::Delay
            | Kind::HalfOpenCaller
            | Kind::HalfOpenServer
            | Kind::Throttle => wires::strike(stack, fault).await,
            Kind::PostgresRestart => postgres::restart(stack).await,
            Kind::PostgresRestore => postgres::restore(stack, proof, fault.lasts).await,
            Kind::PostgresPromotion => postgres::promote(stack, proof, fault.lasts).await,
            Kind::StreamDelete
            | Kind::StreamPurge
            | Kind::StreamPurgeOlder
            | Kind::MessageDelete
            | Kind::ConsumerDelete => stream::strike(stack, proof, fault).await,
            Kind::NatsStoreRestore => stream::restore_store(stack, proof, fault.lasts).await,
            Kind::DiskFull => disks::fill(stack, proof, fault).await,
            Kind::MongodbStepDown => mongodb::step_down(stack, fault.lasts).await,
            Kind::MongodbLock => mongodb::lock(stack, fault.lasts).await,
            Kind::MongodbRestore => mongodb::restore(stack, proof, fault.lasts).await,
            Kind::Rebuild => rebuild::rebuild(stack, fault).await,
            Kind::TrickleClients | Kind::DeafClients | Kind::SilentClients => {
                clients::strike(stack, fault).await
            }
        }
    };
    struck.await.with_context(|| fault.to_string())
}
