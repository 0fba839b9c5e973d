//! Spans of batches: linked to what created their messages, and below none of them.

use std::collections::BTreeSet;

use testkit::{SpanKind, eventually};

use super::Traced;

const USERS: usize = 20;

#[tokio::test]
async fn a_batch_is_linked_to_what_created_its_messages_and_continues_none_of_their_traces() {
    let traced = Traced::new("1").await;
    let users = traced.start("user-service").await;
    for number in 0..USERS {
        users.create(&format!("User {number}")).await;
    }
    traced.stack.published(USERS as u64).await;
    let requests: BTreeSet<_> = eventually("all requests' spans", async || {
        let requests = traced.collector.named("POST /users");
        (requests.len() == USERS).then(|| requests.iter().map(|it| it.ids()).collect())
    })
    .await;
    // All of them wait on the stream by now, so that they come together.
    let notifications = traced.start("notification-service").await;
    traced.stack.converged().await;
    traced.stack.acknowledged(USERS as u64).await;
    traced.stopped([users, notifications]).await;

    let subject = &traced.stack.topic.subject;
    let receives = traced.collector.named(&format!("receive {subject}"));
    assert!(receives.len() < USERS, "{}", receives.len());
    let links = receives.iter().flat_map(|it| it.links.clone());
    assert_eq!(links.collect::<BTreeSet<_>>(), requests);
    for receive in &receives {
        assert_eq!(receive.parent_span_id, "");
        assert!(
            requests
                .iter()
                .all(|(trace_id, _)| *trace_id != receive.trace_id)
        );
    }

    let processes = traced.collector.named(&format!("process {subject}"));
    let parents = processes
        .iter()
        .map(|it| (it.trace_id.clone(), it.parent_span_id.clone()));
    assert_eq!(parents.collect::<BTreeSet<_>>(), requests);
    let updates = traced.collector.named("update user_notifications");
    let below = updates
        .iter()
        .map(|it| (it.trace_id.clone(), it.parent_span_id.clone()));
    let processes: BTreeSet<_> = processes.iter().map(|it| it.ids()).collect();
    assert_eq!(below.collect::<BTreeSet<_>>(), processes);
    let is_batch =
        |it: &&testkit::CollectedSpan| it.attributes.contains_key("db.operation.batch.size");
    assert!(updates.iter().any(|it| is_batch(&it)));
}

#[tokio::test]
async fn a_message_that_is_set_aside_shows_so_in_its_trace_and_its_log_line_names_both() {
    let traced = Traced::new("0").await;
    let users = traced.start("user-service").await;
    let notifications = traced.start("notification-service").await;
    traced.stack.published(0).await;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("traceparent", super::sampled().as_str());
    headers.insert("ce-id", "event-7");
    let subject = traced.stack.topic.subject.clone();
    let jetstream = traced.stack.jetstream().await;
    let ack = jetstream.publish_with_headers(subject.clone(), headers, "not JSON".into());
    ack.await
        .expect("a publish")
        .await
        .expect("an acknowledgement");
    let line = eventually("the line about it", async || {
        let output = notifications.service.process.output();
        output
            .into_iter()
            .find(|line| line.contains("set a message aside"))
    });
    let line = line.await;
    assert!(line.contains(r#""event_id":"event-7""#), "{line}");
    assert!(
        line.contains(&format!(r#""trace_id":"{}""#, super::TRACE_ID)),
        "{line}"
    );
    traced.stopped([users, notifications]).await;
    let process = traced.collector.only(&format!("process {subject}"));
    assert_eq!(process.kind, SpanKind::Consumer);
    assert_eq!(process.attribute("event_consumer.verdict"), "dead_lettered");
    assert_eq!(process.attribute("messaging.message.id"), "event-7");
    assert_eq!(process.attribute("error.type"), "not_json");
    assert!(process.is_error);
}
