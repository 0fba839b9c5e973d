//! Connections between two parts that are cut, silent or slow.

use std::time::Duration;

use anyhow::{Context, bail};
use tokio::time::sleep;

use crate::{
    plan::{Fault, Kind},
    stack::Stack,
};

pub(super) async fn strike(stack: &Stack, fault: &Fault) -> anyhow::Result<()> {
    let proxy = stack.wires.proxy(fault.target).context("a connection")?;
    match fault.kind {
        Kind::Cut => proxy.cut(),
        Kind::Stall => proxy.hold_both(),
        Kind::BlackHole => proxy.black_hole(),
        Kind::Delay => proxy.delay(Duration::from_millis(50 + fault.dice % 451)),
        Kind::HalfOpenCaller => proxy.hold_client(),
        Kind::HalfOpenServer => proxy.hold_server(),
        Kind::Throttle => proxy.throttle(2_000 + (fault.dice % 20_000) as usize),
        kind => bail!("{kind:?} is no fault of connections"),
    }
    sleep(fault.lasts).await;
    match fault.kind {
        // Else those who do not notice keep what they hold on the other side.
        Kind::BlackHole => proxy.reset(),
        _ => proxy.pass(),
    }
    Ok(())
}
