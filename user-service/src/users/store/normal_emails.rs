//! Users without the normal form of their e-mail address: older releases do not write it.

use postgres_pool::Pool;

/// A user whose normal form is missing.
#[derive(Debug)]
pub(in crate::users) struct Unnormalized {
    pub(in crate::users) id: i64,
    pub(in crate::users) email: String,
}

/// The next of them above `after`, in the order of their ids.
pub(in crate::users) async fn missing(
    pool: &Pool,
    after: i64,
    limit: u16,
) -> sqlx::Result<Vec<Unnormalized>> {
    sqlx::query_as!(
        Unnormalized,
        r"
        select id, email from users where normal_email is null and id > $1
        order by id limit $2
        ",
        after,
        i64::from(limit),
    )
    .fetch_all(pool)
    .await
}

/// What became of one user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::users) struct Normalized {
    pub(in crate::users) id: i64,
    pub(in crate::users) is_set: bool,
    /// Another user who has the same address.
    pub(in crate::users) holder: Option<i64>,
}

/// Sets the normal form of each of these users, unless another one has it, the user has changed
/// meanwhile, or its row is locked. Never waits for a row.
///
/// # Errors
/// Also if somebody takes one of these addresses at the same moment: then none is set.
pub(in crate::users) async fn set(
    pool: &Pool,
    users: &[(&Unnormalized, String)],
) -> sqlx::Result<Vec<Normalized>> {
    let ids: Vec<_> = users.iter().map(|(user, _)| user.id).collect();
    let emails: Vec<_> = users.iter().map(|(user, _)| user.email.as_str()).collect();
    let normal_emails: Vec<_> = users.iter().map(|(_, normal)| normal.as_str()).collect();
    let mut transaction = pool.begin().await?;
    // Whoever holds one of these addresses right now may wait for another of them.
    sqlx::query!("set local lock_timeout = '250ms'")
        .execute(&mut *transaction)
        .await?;
    let normalized = sqlx::query_as!(
        Normalized,
        r#"
        with given as (
            select *, min(id) over (partition by normal_email) as first_id
            from unnest($1::bigint[], $2::text[], $3::text[]) as given (id, email, normal_email)
        ), compared as (
            select given.*, coalesce(users.id, nullif(first_id, given.id)) as holder
            from given
            left join users on users.normal_email = given.normal_email and users.id <> given.id
        ), free as (
            select users.id, compared.normal_email
            from compared join users using (id, email)
            where holder is null and users.normal_email is null
            order by id for no key update of users skip locked
        ), changed as (
            update users set normal_email = free.normal_email
            from free where users.id = free.id
            returning users.id
        )
        select id as "id!", changed.id is not null as "is_set!", holder
        from compared left join changed using (id)
        order by id
        "#,
        &ids,
        emails as _,
        normal_emails as _,
    )
    .fetch_all(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(normalized)
}
