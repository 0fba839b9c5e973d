//! What is printed, for people or (a JSON object a line) for machines.

use std::collections::BTreeMap;

use serde_json::json;

use super::settle::Verdict;

#[derive(Debug)]
pub(super) struct Report {
    json: bool,
    users: u64,
    copies: u64,
    counts: BTreeMap<String, u64>,
    repaired: u64,
}

impl Report {
    pub(super) fn new(json: bool) -> Self {
        let kinds = ["missing", "stale", "extra", "ahead", "conflict", "damaged"];
        Self {
            json,
            users: 0,
            copies: 0,
            counts: kinds.map(|kind| (kind.to_owned(), 0)).into(),
            repaired: 0,
        }
    }

    pub(super) fn seen(&mut self, users: u64, copies: u64) {
        self.users += users;
        self.copies += copies;
    }

    pub(super) fn judged(&mut self, verdict: &Verdict) -> anyhow::Result<()> {
        self.repaired += verdict.repaired as u64;
        for difference in &verdict.differences {
            let kind = format!("{:?}", difference.difference).to_lowercase();
            if self.json {
                println!("{}", serde_json::to_string(difference)?);
            } else {
                let version = |it: Option<i64>| it.map_or("-".to_owned(), |it| it.to_string());
                println!(
                    "{kind:8}  user {}  version {}  copy {}",
                    difference.user_id,
                    version(difference.user_version),
                    version(difference.copy_version)
                );
            }
            *self.counts.entry(kind).or_default() += 1;
        }
        Ok(())
    }

    pub(super) fn differences(&self) -> u64 {
        self.counts.values().sum()
    }

    pub(super) fn finish(&self) -> anyhow::Result<()> {
        let (users, copies) = (self.users, self.copies);
        if self.json {
            let agree = self.differences() == 0;
            let counts = &self.counts;
            let summary = json!({ "agree": agree, "users": users, "copies": copies, "counts": counts,
                        "repaired": self.repaired });
            println!("{summary}");
            return Ok(());
        }
        let counts: Vec<_> = self
            .counts
            .iter()
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        println!("{users} users, {copies} copies: {}", counts.join(", "));
        if self.repaired > 0 {
            println!("{} repaired", self.repaired);
        }
        Ok(())
    }
}
