//! Which ledger this is, and which database of it: `system/timeline/database`.

use service_runtime::nats::stream::LedgerIdentity;

/// Whether `mine` is the same database after a promotion: the other one is the primary of before.
pub(super) fn supersedes(mine: &LedgerIdentity, other: &LedgerIdentity) -> bool {
    let (Some(mine_of), Some(other_of)) = (parts(&mine.database), parts(&other.database)) else {
        return false;
    };
    let is_same = (mine_of.0, mine_of.2) == (other_of.0, other_of.2);
    mine.ledger_id == other.ledger_id && mine_of.0 != "0" && is_same && mine_of.1 > other_of.1
}

/// Why a relay must not publish for `mine` to a stream whose metadata names another identity.
pub(super) fn objection(mine: &LedgerIdentity, named: &LedgerIdentity) -> Option<&'static str> {
    if named.ledger_id != mine.ledger_id {
        return Some("it belongs to another ledger");
    }
    supersedes(named, mine).then_some("it belongs to a standby that was promoted since")
}

/// System, timeline and database.
fn parts(database: &str) -> Option<(&str, u32, &str)> {
    let mut parts = database.split('/');
    let (system, timeline, database) = (parts.next()?, parts.next()?, parts.next()?);
    Some((system, timeline.parse().ok()?, database))
}

#[cfg(test)]
mod tests {
    use super::{LedgerIdentity, objection, supersedes};

    #[test]
    fn a_promoted_standby_supersedes_its_primary_and_nothing_else_does() {
        let of = |text| LedgerIdentity::parse(text).expect("an identity");
        let primary = of("a 7/1/5");
        assert!(supersedes(&of("a 7/2/5"), &primary));
        for other in [
            "a 7/1/5", "a 7/1/6", "a 8/2/5", "a 7/2/6", "b 7/2/5", "a 0/0/5", "a x",
        ] {
            assert!(!supersedes(&of(other), &primary), "{other}");
        }
        assert!(!supersedes(&primary, &of("a 7/2/5")));
        assert!(!supersedes(&of("a 0/2/5"), &of("a 0/1/5")));
    }

    #[test]
    fn another_ledger_and_a_primary_of_before_are_refused_however_silent_the_other_is() {
        let of = |text| LedgerIdentity::parse(text).expect("an identity");
        let named = of("a 7/2/5");
        for refused in ["b 7/2/5", "a 7/1/5"] {
            assert!(objection(&of(refused), &named).is_some(), "{refused}");
        }
        for restored in ["a 7/3/5", "a 8/1/5", "a 7/2/6", "a 0/0/5"] {
            assert_eq!(objection(&of(restored), &named), None, "{restored}");
        }
    }
}
