//! Digests of ranges of users, computed by Postgres in one statement.

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;

/// The users of one range. The sum is that of [`shared_events::user_digest`], modulo 2^64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RangeSum {
    pub(crate) users: i64,
    pub(crate) sum: u64,
    pub(crate) last_user_id: i64,
}

/// The ranges of `size` ids between `first` and `last` that have users, at most `max_ranges` and
/// no more than `limit` users; and a time such that all that was committed before it is in them.
///
/// No number is written as a float, and nothing depends on the settings of the session.
pub(crate) async fn range_sums(
    db: impl PgExecutor<'_>,
    (first, last): (i64, i64),
    size: i64,
    limit: i64,
    max_ranges: i64,
) -> sqlx::Result<(DateTime<Utc>, Vec<RangeSum>)> {
    let rows = sqlx::query!(
        r#"
        with digested as (
            select id,
                   ('x' || left(encode(sha256(convert_to(concat(
                       id, ' ', version, ' ', (extract(epoch from updated_at) * 1000)::bigint, ' ',
                       char_length(name), ' ', name, email
                   ), 'UTF8')), 'hex'), 16))::bit(64)::bigint as digest
            from users where id between $1 and $2
            order by id limit $4
        ), range as (
            select count(*) as users, sum(digest)::text as sum, max(id) as last_user_id
            from digested group by id / $3 order by id / $3 limit $5
        )
        select statement_timestamp() as "read_at!", users as "users?", sum as "sum?",
               last_user_id as "last_user_id?"
        from (values (true)) as always left join range on true
        order by last_user_id
        "#,
        first,
        last,
        size,
        limit,
        max_ranges,
    )
    .fetch_all(db)
    .await?;
    let read_at = rows.first().map(|row| row.read_at);
    let ranges = rows.into_iter().filter_map(|row| {
        Some(RangeSum {
            users: row.users?,
            sum: modulo_2_64(&row.sum?)?,
            last_user_id: row.last_user_id?,
        })
    });
    Ok((read_at.unwrap_or_default(), ranges.collect()))
}

/// Of a sum of numbers with 64 bits and a sign.
fn modulo_2_64(sum: &str) -> Option<u64> {
    let sum: i128 = sum.parse().ok()?;
    u64::try_from(sum.rem_euclid(1 << 64)).ok()
}

#[cfg(test)]
mod tests {
    use super::modulo_2_64;

    #[test]
    fn a_sum_of_numbers_with_a_sign_is_that_of_their_64_bits() {
        assert_eq!(modulo_2_64("-1"), Some(u64::MAX));
        assert_eq!(modulo_2_64("18446744073709551617"), Some(1));
        assert_eq!(
            modulo_2_64("-884090551667493983879"),
            Some((-884_090_551_667_493_983_879_i128) as u64)
        );
    }
}
