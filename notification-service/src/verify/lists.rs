//! Finding those who differ by walking both lists page by page, in the order of ids and side by side.

use super::{
    api_client::{ApiClient, Pages},
    compare::{Suspect, Verifier},
    report::Report,
    settle::{Judge, MAX_SUSPECTS},
};

/// Walks both lists to their ends. With many suspects it waits for them to settle on the way.
pub(super) async fn walk(
    verifier: &Verifier,
    copies: &ApiClient,
    judge: &Judge,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut users = Pages::new(&verifier.users);
    let mut copies = Pages::new(copies);
    let mut suspects = Vec::new();
    loop {
        let user = users.peek().await?;
        let copy = copies.peek().await?;
        let Some(id) = [user, copy].into_iter().flatten().map(|it| it.id).min() else {
            return report.judged(&judge.judge(verifier, &suspects).await?);
        };
        let user = user.filter(|it| it.id == id).cloned();
        let copy = copy.filter(|it| it.id == id).cloned();
        report.seen(u64::from(user.is_some()), u64::from(copy.is_some()));
        if user != copy {
            let record = user.and_then(|user| user.record);
            suspects.push(Suspect::new(id, record.as_ref()));
        }
        users.pass(id);
        copies.pass(id);
        if suspects.len() >= MAX_SUSPECTS {
            report.judged(&judge.judge(verifier, &suspects).await?)?;
            suspects.clear();
        }
    }
}
