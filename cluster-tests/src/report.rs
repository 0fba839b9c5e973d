//! What came out, as a table for the documentation.

use std::time::Duration;

use crate::measure::Recovery;

#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<(&'static str, Vec<Recovery>)>,
    failures: usize,
}

impl Report {
    pub(crate) fn add(&mut self, name: &'static str, outcome: anyhow::Result<Recovery>) {
        match outcome {
            Ok(recovery) => {
                println!("{name}: {recovery:.1?}");
                match self.rows.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, runs)) => runs.push(recovery),
                    None => self.rows.push((name, vec![recovery])),
                }
            }
            Err(error) => {
                println!("{name}: FAILED: {error:#}");
                self.failures += 1;
            }
        }
    }

    pub(crate) fn failures(&self) -> usize {
        self.failures
    }

    /// Seconds, median and maximum of the runs.
    pub(crate) fn print(&self) {
        println!(
            "\n| fault | runs | writes go on after | copy goes on after | slowest write | ready after restart | writes a second |"
        );
        println!("|---|---|---|---|---|---|---|");
        for (name, runs) in &self.rows {
            let columns = [
                spread(runs, |run| run.writes),
                spread(runs, |run| run.copy),
                spread(runs, |run| run.slowest),
                spread(runs, |run| run.ready),
            ];
            let rate = runs.iter().map(|run| run.rate).sum::<f64>() / runs.len() as f64;
            println!(
                "| {name} | {} | {} | {rate:.0} |",
                runs.len(),
                columns.join(" | ")
            );
        }
        let runs = || self.rows.iter().flat_map(|(_, runs)| runs);
        let writes: usize = runs().map(|run| run.acknowledged).sum();
        let doubtful: usize = runs().map(|run| run.doubtful).sum();
        println!(
            "\n{writes} acknowledged writes, {doubtful} of them deletions known by absence alone, {} \
             faults failed",
            self.failures
        );
    }
}

fn spread(runs: &[Recovery], of: impl Fn(&Recovery) -> Duration) -> String {
    let mut times: Vec<_> = runs.iter().map(|run| of(run).as_secs_f64()).collect();
    times.sort_unstable_by(f64::total_cmp);
    let (median, max) = (times[times.len() / 2], times[times.len() - 1]);
    match times.len() {
        1 => format!("{median:.1}"),
        _ => format!("{median:.1} / {max:.1}"),
    }
}
