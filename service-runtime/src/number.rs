//! Numbers in paths, queries and headers.

use std::str::FromStr;

/// A number that is written as programs write it, so that each has one name only: without a plus, and
/// without zeros before it.
pub fn parse<T: FromStr + ToString>(text: &str) -> Option<T> {
    let number: T = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_number_has_one_name() {
        for number in [0, 7, -1, i64::MAX, i64::MIN] {
            assert_eq!(parse(&number.to_string()), Some(number));
        }
        for other in ["", "+7", "07", "-0", " 7", "7.0", "9223372036854775808"] {
            assert_eq!(parse::<i64>(other), None, "{other}");
        }
    }
}
