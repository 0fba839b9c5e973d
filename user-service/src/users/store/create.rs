//! New users, many with one statement.

use std::collections::{HashMap, HashSet};

use postgres_pool::{Connection, Transaction};
use uuid::Uuid;

use super::{
    NewUser, StoreError, User,
    id_sequence::{self, Look},
};

/// How often those are tried again whose addresses are free after all.
const MAX_REPEATS: usize = 2;

type Answers = Vec<Result<User, StoreError>>;

/// Creates those users whose address is free, all in one statement; the answers stand in the
/// order of the requests. No two of them may have the same address.
///
/// # Errors
/// If Postgres refuses, or does not answer: the transaction has to be rolled back.
pub(in crate::users) async fn create(
    transaction: &mut Transaction,
    users: &[&NewUser],
) -> Result<Answers, StoreError> {
    let mut created = insert(transaction, users).await?;
    let taken = settle(transaction, users, &mut created).await?;
    Ok(answers(users, created, &Ok(taken)))
}

/// The same without a transaction: the statement commits by itself. If it is not found out then why
/// the others were not created, only they are told so.
///
/// # Errors
/// If Postgres refuses, or does not answer.
pub(in crate::users) async fn create_at_once(
    db: &mut Connection,
    users: &[&NewUser],
) -> Result<Answers, StoreError> {
    let mut created = insert(db, users).await?;
    let taken = settle(db, users, &mut created).await;
    Ok(answers(users, created, &taken))
}

/// By their addresses.
type Created = HashMap<String, User>;

async fn insert(db: &mut Connection, users: &[&NewUser]) -> Result<Created, StoreError> {
    let column = |field: fn(&NewUser) -> &str| users.iter().map(|user| field(user)).collect();
    let names: Vec<&str> = column(|user| user.draft.name.as_str());
    let emails: Vec<&str> = column(|user| user.draft.email.as_str());
    let normal_emails: Vec<&str> = column(|user| user.draft.email.normal());
    let event_ids: Vec<_> = users.iter().map(|_| Uuid::now_v7()).collect();
    let headers: Vec<_> = users.iter().map(|it| it.event_headers.as_deref()).collect();
    // In a file of its own, because pgbench runs the same for comparison.
    let created = sqlx::query_file_as!(
        User,
        "src/users/create.sql",
        &event_ids,
        headers as _,
        names as _,
        &emails as _,
        normal_emails as _,
    )
    .fetch_all(&mut *db)
    .await?;
    let by_address = created.into_iter().map(|user| (user.email.clone(), user));
    Ok(by_address.collect())
}

/// Finds out why some were not created: their addresses are taken (which they are is returned), or
/// their ids, because the sequence was behind, or the conflict has gone in the meantime. Those whose
/// addresses are free are tried again.
async fn settle(
    db: &mut Connection,
    users: &[&NewUser],
    created: &mut Created,
) -> Result<HashSet<String>, StoreError> {
    let mut taken = HashSet::new();
    let mut open = missing(users, created);
    for _ in 0..MAX_REPEATS {
        if open.is_empty() {
            break;
        }
        taken.extend(look_for_taken(db, &open).await?);
        open.retain(|user| !taken.contains(user.draft.email.as_str()));
        if open.is_empty() {
            break;
        }
        id_sequence::repair(&mut *db, Look::Thorough).await?;
        created.extend(insert(db, &open).await?);
        open = missing(&open, created);
    }
    Ok(taken)
}

fn missing<'a>(users: &[&'a NewUser], created: &Created) -> Vec<&'a NewUser> {
    let is_missing = |user: &&&NewUser| !created.contains_key(user.draft.email.as_str());
    users.iter().filter(is_missing).copied().collect()
}

fn answers(
    users: &[&NewUser],
    mut created: Created,
    taken: &Result<HashSet<String>, StoreError>,
) -> Answers {
    let answer = |user: &&NewUser| {
        let email = user.draft.email.as_str();
        match (created.remove(email), taken) {
            (Some(user), _) => Ok(user),
            (None, Ok(taken)) if taken.contains(email) => Err(StoreError::EmailTaken),
            // Whoever had it has gone in the meantime.
            (None, Ok(_)) => Err(StoreError::Locked),
            (None, Err(error)) => Err(error.clone()),
        }
    };
    users.iter().map(answer).collect()
}

/// Which of these addresses somebody has. The statement before tells only that there was a
/// conflict, which may also have been one of ids.
async fn look_for_taken(
    db: &mut Connection,
    users: &[&NewUser],
) -> Result<HashSet<String>, StoreError> {
    let column = |field: fn(&NewUser) -> &str| users.iter().map(|user| field(user)).collect();
    let emails: Vec<&str> = column(|user| user.draft.email.as_str());
    let normal_emails: Vec<&str> = column(|user| user.draft.email.normal());
    let taken = sqlx::query_scalar!(
        r#"
        select email as "email!"
        from unnest($1::text[], $2::text[]) as draft (email, normal_email)
        where exists (select from users where users.normal_email = draft.normal_email)
            or exists (select from users where lower(users.email) = lower(draft.email))
        "#,
        emails as _,
        normal_emails as _,
    )
    .fetch_all(db)
    .await?;
    Ok(taken.into_iter().collect())
}
