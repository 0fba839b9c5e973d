//! A number for all that a user is, so that two sides can compare many users at once.

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

/// The first 64 bits of the SHA-256 of `ID VERSION MILLISECONDS CHARACTERS NAMEEMAIL` in UTF-8: the
/// numbers are decimal, the time is since 1970, and the characters are those of the name, so that it
/// is clear where the name ends. It depends on no locale, time zone or form of a float.
///
/// Digests of several users are added modulo 2^64, in any order. Two sides that differ have the
/// same sum with a probability of 2^-64.
#[must_use]
pub fn user_digest(
    id: i64,
    version: i64,
    updated_at: DateTime<Utc>,
    name: &str,
    email: &str,
) -> u64 {
    let (milliseconds, characters) = (updated_at.timestamp_millis(), name.chars().count());
    let text = format!("{id} {version} {milliseconds} {characters} {name}{email}");
    let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(Sha256::digest(text));
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::user_digest;

    fn digest(name: &str, email: &str) -> u64 {
        let updated_at = DateTime::from_timestamp_millis(1_767_323_045_678);
        user_digest(1, 2, updated_at.expect("a time"), name, email)
    }

    #[test]
    fn the_format_does_not_change() {
        // printf '1 2 1767323045678 3 Zoëzoe@example.com' | sha256sum | cut -c1-16
        assert_eq!(digest("Zoë", "zoe@example.com"), 0xab08_e510_2e07_b7dd);
        assert_eq!(digest("Ada", "ada@example.com"), 0x3a6e_e3a1_b1b6_236d);
    }

    #[test]
    fn where_the_name_ends_makes_a_difference() {
        assert_ne!(
            digest("Ada", "a@example.com"),
            digest("Adaa", "@example.com")
        );
    }
}
