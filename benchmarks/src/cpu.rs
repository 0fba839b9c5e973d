//! Who used the processors meanwhile.

use std::{fs, time::Duration};

use nix::sys::resource::{UsageWho, getrusage};

/// Processor time used so far: by the whole machine, by this process, by its ended children.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CpuTimes {
    machine: Duration,
    own: Duration,
    children: Duration,
}

impl CpuTimes {
    pub(crate) fn now() -> Self {
        Self {
            machine: machine(),
            own: used(UsageWho::RUSAGE_SELF),
            children: used(UsageWho::RUSAGE_CHILDREN),
        }
    }

    /// By what factor the rate would have been higher, had the load generator (this process, or
    /// the child that just ended) cost nothing and the others had its share of the processors.
    pub(crate) fn without_generator(self, generator: Generator) -> f64 {
        let now = Self::now();
        let machine = now.machine.saturating_sub(self.machine).as_secs_f64();
        let generator = match generator {
            Generator::Own => now.own.saturating_sub(self.own),
            Generator::Child => now.children.saturating_sub(self.children),
        };
        machine / (machine - generator.as_secs_f64())
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Generator {
    Own,
    Child,
}

fn used(who: UsageWho) -> Duration {
    let Ok(usage) = getrusage(who) else {
        return Duration::ZERO;
    };
    let total = usage.user_time() + usage.system_time();
    let micros = total.tv_sec() * 1_000_000 + total.tv_usec();
    Duration::from_micros(micros.unsigned_abs())
}

/// All but idle and waiting, in the kernel's ticks of 10 ms.
fn machine() -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks: Vec<u64> = (stat.lines().next().unwrap_or_default())
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    let busy: u64 = (ticks.iter().enumerate())
        .filter(|(field, _)| !matches!(field, 3 | 4 | 8 | 9))
        .map(|(_, ticks)| ticks)
        .sum();
    Duration::from_millis(busy * 10)
}

/// Seconds of processor time that a process on this machine has used, in all its threads.
pub(crate) fn used_by(pid: &str) -> f64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    let nanoseconds: f64 = (threads.into_iter().flatten().flatten())
        .filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok())
        .filter_map(|stat| stat.split(' ').next()?.parse::<f64>().ok())
        .sum();
    nanoseconds / 1e9
}
