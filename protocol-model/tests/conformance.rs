//! Doctored logs: each rule is seen to fail.

use protocol_model::{Guard, conformance::Conformance};

/// A session of epoch 7 from the beginning of the ledger, then what is given: decision and fields.
fn rules_of(decisions: &[&str]) -> Vec<&'static str> {
    let mut conformance = Conformance::default();
    let began = began(7, 0);
    let lines = std::iter::once(began.as_str()).chain(decisions.iter().copied());
    for fields in lines {
        let line = format!(r#"{{"level":"TRACE",{fields},"target":"decision"}}"#);
        conformance.read("log", &line);
    }
    assert_eq!(conformance.decisions(), 1 + decisions.len() as u64);
    let violations = conformance.violations();
    violations.into_iter().map(|it| it.rule).collect()
}

fn began(epoch: i64, last_id: i64) -> String {
    format!(
        r#""decision":"session_began","stream":"S","epoch":{epoch},"database":"d","last_id":{last_id},"gaps":"","tail":0,"refill":"","missing":"5..6""#
    )
}

fn of_relay(decision: &str, fields: &str) -> String {
    format!(r#""decision":"{decision}","stream":"S","epoch":7,{fields}"#)
}

fn sent(id: i64, aggregate: &str, version: i64) -> String {
    let fields = format!(
        r#""outbox_id":{id},"aggregate":"user/{aggregate}","version":{version},"is_again":false"#
    );
    of_relay("sent", &fields)
}

fn published(id: i64, sequence: i64) -> String {
    of_relay(
        "published",
        &format!(r#""outbox_id":{id},"sequence":{sequence}"#),
    )
}

fn saved(last_id: i64, gaps: &str) -> String {
    let fields = format!(r#""last_id":{last_id},"gaps":"{gaps}","tail":1"#);
    of_relay("cursor_saved", &fields)
}

fn of_consumer(decision: &str, sequence: i64, version: i64) -> String {
    format!(
        r#""decision":"{decision}","stream_sequence":{sequence},"user_id":1,"version":{version}"#
    )
}

fn assert_only(rule: &str, decisions: &[String]) {
    let decisions: Vec<_> = decisions.iter().map(String::as_str).collect();
    assert_eq!(rules_of(&decisions), [rule], "{decisions:#?}");
}

#[test]
fn what_is_allowed_is_no_violation() {
    let decisions = [
        sent(1, "a", 1),
        sent(3, "b", 1),
        published(1, 1),
        sent(4, "a", 2),
        saved(1, ""),
        published(3, 2),
        saved(3, "2..3"),
        of_relay("gap_abandoned", r#""ids":"2..3""#),
        of_relay("duplicate", r#""outbox_id":4,"sequence":3"#),
        saved(4, ""),
        of_consumer("received", 1, 1),
        of_consumer("applied", 2, 2),
        of_consumer("superseded", 1, 1),
        of_consumer("acknowledged", 1, 1),
        of_consumer("acknowledged", 2, 2),
    ];
    let decisions: Vec<_> = decisions.iter().map(String::as_str).collect();
    assert!(rules_of(&decisions).is_empty());
}

#[test]
fn a_cursor_that_passes_what_is_not_acknowledged_is_a_violation() {
    let decisions = [
        sent(1, "a", 1),
        sent(2, "b", 1),
        published(2, 1),
        saved(2, ""),
    ];
    assert_only(Guard::CursorAfterAck.about(), &decisions);
}

#[test]
fn two_events_of_an_aggregate_in_flight_are_a_violation() {
    let decisions = [sent(1, "a", 1), sent(2, "a", 2)];
    assert_only(Guard::OneInFlight.about(), &decisions);
}

#[test]
fn versions_that_are_sent_in_another_order_are_a_violation() {
    let decisions = [sent(2, "a", 2), published(2, 1), sent(1, "a", 1)];
    assert_only(
        "a session sends the versions of an aggregate in order",
        &decisions,
    );
}

#[test]
fn an_acknowledgement_of_what_was_not_sent_is_a_violation() {
    assert_only("only what was sent is acknowledged", &[published(1, 1)]);
}

#[test]
fn a_gap_that_is_abandoned_before_its_transaction_has_ended_is_a_violation() {
    let dead = r#""decision":"gaps_dead","up_to":9,"bound":101,"horizon":100"#;
    assert_only(Guard::GapBound.about(), &[dead.to_owned()]);
}

#[test]
fn a_relay_that_saves_after_it_has_lost_the_lease_is_a_violation() {
    let lost = r#""decision":"lease_lost","epoch":7"#.to_owned();
    assert_only(Guard::EpochFence.about(), &[lost, saved(0, "")]);
}

#[test]
fn a_save_that_the_next_owner_has_not_found_is_a_violation() {
    let before = [sent(1, "a", 1), published(1, 1), saved(1, "")];
    let late = [&before[..], &[began(8, 0)]].concat();
    assert_only(Guard::EpochFence.about(), &late);
    let later = [&[began(8, 0)], &before[..]].concat();
    assert_only(Guard::EpochFence.about(), &later);
    let moved_back = of_relay("moved_back", r#""last_id":0"#);
    for moved in [
        [&before[..], &[moved_back.clone(), began(8, 0)]].concat(),
        // As if epoch 8 were in a log that is read first.
        [&[began(8, 0)], &before[..], &[moved_back]].concat(),
    ] {
        let moved: Vec<_> = moved.iter().map(String::as_str).collect();
        assert!(rules_of(&moved).is_empty());
    }
}

#[test]
fn a_loss_that_the_next_session_does_not_take_back_is_a_violation() {
    let noted = of_relay("loss_noted", r#""missing":"1..2","ids":"1..2""#);
    assert_only(Guard::Refill.about(), &[noted, began(7, 1)]);
}

#[test]
fn a_duplicate_of_a_missing_message_that_counts_is_a_violation() {
    let duplicate = of_relay("duplicate", r#""outbox_id":1,"sequence":5"#);
    assert_only(Guard::NewMessageId.about(), &[sent(1, "a", 1), duplicate]);
}

#[test]
fn a_version_at_or_below_an_orphans_that_is_sent_is_a_violation() {
    let restated = of_relay("restated", r#""aggregate":"user/a","above":3"#);
    assert_only(Guard::Superseded.about(), &[restated, sent(1, "a", 3)]);
}

#[test]
fn an_acknowledgement_before_the_write_is_a_violation() {
    let decisions = [
        of_consumer("received", 1, 1),
        of_consumer("acknowledged", 1, 1),
        of_consumer("applied", 1, 1),
    ];
    assert_only(Guard::AckAfterWrite.about(), &decisions);
}

#[test]
fn an_older_event_without_the_newer_one_is_a_violation() {
    let decisions = [
        of_consumer("superseded", 1, 1),
        of_consumer("acknowledged", 1, 1),
    ];
    assert_only(
        "an event that is settled by a newer one comes with it",
        &decisions,
    );
}

#[test]
fn a_decision_that_can_not_be_read_is_a_violation_and_other_lines_are_ignored() {
    let mut conformance = Conformance::default();
    for line in [
        "",
        "a decision",
        r#"{"target":"outbox","decision":"sent"}"#,
        r#"{"target":"decision","decision":"cursor_sav"#,
    ] {
        conformance.read("log", line);
    }
    assert_eq!(
        (conformance.decisions(), conformance.violations()),
        (0, Vec::new())
    );
    conformance.read(
        "log",
        r#"{"target":"decision","decision":"sent","epoch":7}"#,
    );
    assert_eq!(conformance.violations()[0].rule, "decisions can be read");
}
