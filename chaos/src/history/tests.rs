use tokio::time::Instant;

use super::{Change, History, Outcome, Token, Write};

fn creation(history: &History) -> Token {
    history.begin(Write::creation)
}

fn outcome(history: &History, token: Token) -> Outcome {
    history.read(|records| records.write(token).outcome)
}

#[test]
fn a_write_is_recognized_by_what_it_stores() {
    let token = Token(4711);
    assert_eq!(Token::of_name(&token.name()), Some(token));
    assert_eq!(Token::of_email(&token.email()), Some(token));
    for other in [
        "",
        "w",
        "w1@example.org",
        "w01@example.com",
        "w-1@example.com",
    ] {
        assert_eq!(Token::of_email(other), None, "{other}");
    }
}

#[test]
fn a_repeat_that_is_answered_differently_is_a_violation() {
    let history = History::default();
    let token = creation(&history);
    history.acknowledged(token, Some(7), 1);
    history.acknowledged(token, Some(7), 1);
    assert_eq!(history.take_violations(), []);
    history.acknowledged(token, Some(8), 1);
    assert_eq!(history.take_violations().len(), 1);
}

#[test]
fn what_was_acknowledged_while_it_may_be_lost_is_unknown() {
    let history = History::default();
    let (before, lost, under_way) = (creation(&history), creation(&history), creation(&history));
    history.acknowledged(before, Some(1), 1);
    let from = Instant::now();
    history.acknowledged(lost, Some(2), 1);
    let losses = history.losses();
    assert!(history.is_certain(losses));
    history.lost_after(from);
    assert!(!history.is_certain(losses) && !history.is_certain(history.losses()));
    let losses = history.losses();
    history.losses_are_over();
    assert!(!history.is_certain(losses) && history.is_certain(history.losses()));
    history.acknowledged(under_way, Some(3), 1);
    let after = creation(&history);
    history.acknowledged(after, Some(4), 1);

    for kept in [before, after] {
        assert!(history.is_acknowledged(kept));
    }
    for unknown in [lost, under_way] {
        assert_eq!(outcome(&history, unknown), Outcome::Unknown);
    }
    assert_eq!(history.acknowledgements(), 4);
}

#[test]
fn deletions_are_found_by_their_user() {
    let history = History::default();
    let token = history.begin(|_| Write::of_user(7, Change::Delete, None));
    history.read(|records| {
        let found: Vec<_> = records.deletions(7).map(|(token, _)| token).collect();
        assert_eq!(found, [token]);
        assert_eq!(records.deletions(8).count(), 0);
    });
}
