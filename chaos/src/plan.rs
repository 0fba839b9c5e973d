//! Which faults strike in a round. The seed and the number of the round decide everything, the time
//! nothing: the same seed gives the same plan.

mod kind;
#[cfg(test)]
mod tests;

use std::{fmt, time::Duration};

use fastrand::Rng;

pub(crate) use self::kind::Kind;

/// One fault of a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    /// A process, or a connection as `FROM>TO`.
    pub(crate) target: &'static str,
    /// From the beginning of the round.
    pub(crate) after: Duration,
    pub(crate) lasts: Duration,
    /// Decides what else there is to decide.
    pub(crate) dice: u64,
}

/// When the last fault of a round begins, at the latest.
const WINDOW: Duration = Duration::from_secs(4);
const LEAST: u32 = 6;
/// Unless another number is given.
pub(crate) const MOST: u32 = 20;
/// Of those that can't be where others are, another one is drawn so many times.
const DRAWS: usize = 10;

/// The faults of a round in the order of their beginnings: at most `most`, and no more than are `left`.
pub(crate) fn round(seed: u64, number: u64, kinds: &[Kind], most: u32, left: usize) -> Vec<Fault> {
    let mut rng = rng(seed, number);
    let count = rng
        .usize(LEAST.min(most) as usize..=most as usize)
        .min(left);
    let mut faults: Vec<Fault> = Vec::new();
    for _ in 0..count {
        let mut draws = (0..DRAWS).map(|_| draw(&mut rng, kinds));
        let fits = |fault: &Fault| faults.iter().all(|other| fault.goes_with(other));
        if let Some(fault) = draws.find(fits) {
            faults.push(fault);
        }
    }
    faults.sort_by_key(|fault| fault.after);
    faults
}

/// What decides a round.
pub(crate) fn rng(seed: u64, number: u64) -> Rng {
    Rng::with_seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ number)
}

/// One fault of so many lasts long.
const LONG: u32 = 16;

fn draw(rng: &mut Rng, kinds: &[Kind]) -> Fault {
    let total = kinds.iter().map(|kind| kind.weight()).sum();
    let mut ticket = rng.u32(0..total);
    let chosen = kinds.iter().find(|kind| {
        let is_it = ticket < kind.weight();
        ticket = ticket.saturating_sub(kind.weight());
        is_it
    });
    let kind = *chosen.unwrap_or(&kinds[0]);
    let targets = kind.targets();
    let lasts = kind.lasts(rng.u32(..LONG) == 0);
    Fault {
        kind,
        target: targets[rng.usize(..targets.len())],
        after: Duration::from_millis(rng.u64(..WINDOW.as_millis() as u64)),
        lasts: Duration::from_millis(rng.u64(lasts)),
        dice: rng.u64(..),
    }
}

/// Between the end of a fault and the next one of the same target.
const PAUSE: Duration = Duration::from_millis(300);

impl Fault {
    /// Two faults are not of one target at once. Of a database that loses writes the stream must tell
    /// which they were.
    fn goes_with(&self, other: &Self) -> bool {
        let is_apart = self.after > other.after + other.lasts + PAUSE
            || other.after > self.after + self.lasts + PAUSE;
        let is_elsewhere = self.target != other.target;
        let both = [self.kind, other.kind];
        let loses_both =
            both.iter().any(|it| it.loses_writes()) && both.iter().any(|it| it.loses_messages());
        let loses_twice = both.iter().all(|it| it.loses_writes());
        (is_apart || is_elsewhere) && !loses_both && !loses_twice
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            target,
            after,
            lasts,
            ..
        } = self;
        write!(f, "{} {target} {after:.1?}+{lasts:.1?}", kind.name())
    }
}
