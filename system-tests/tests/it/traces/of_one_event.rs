//! The trace of one event, from the request to MongoDB.

use testkit::{CollectedSpan, SpanKind, eventually, unique};

use super::{CALLER_SPAN_ID, TRACE_ID, Traced, create, sampled};

const NAME: &str = "Ada Lovelace";

#[tokio::test]
async fn a_sampled_request_is_one_trace_from_the_http_server_to_mongodb() {
    let traced = Traced::new("0").await;
    let users = traced.start("user-service").await;
    let notifications = traced.start("notification-service").await;
    let email = format!("{}@example.com", unique("ada"));
    let headers = [
        ("traceparent", sampled()),
        ("tracestate", "rojo=00f067aa0ba902b7".to_owned()),
        ("x-request-id", "request-7".to_owned()),
    ];
    let headers = headers
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let id = create(&users, NAME, &email, &headers).await;
    traced.stack.converged().await;
    traced.stack.acknowledged(1).await;
    let path = format!("/notifications/user/{id}");
    let reading = notifications
        .client
        .get(format!("{}{path}", notifications.url));
    let read = reading.header("traceparent", sampled()).send().await;
    assert!(read.expect("an answer").status().is_success());
    let collector = &traced.collector;
    let subject = &traced.stack.topic.subject;
    let messaging = ["send", "receive", "process"].map(|it| format!("{it} {subject}"));
    traced
        .exported(&messaging.each_ref().map(String::as_str))
        .await;
    traced
        .exported(&[
            "POST /users",
            "insert users insert outbox.event",
            "update user_notifications",
            "GET /notifications/user/{id}",
        ])
        .await;
    let spans = traced.stopped([users, notifications]).await;

    let request = collector.only("POST /users");
    assert_eq!(request.kind, SpanKind::Server);
    assert_eq!(request.trace_id, TRACE_ID);
    assert_eq!(request.parent_span_id, CALLER_SPAN_ID);
    assert_eq!(request.tracestate, "rojo=00f067aa0ba902b7");
    assert_eq!(request.service, "user-service");
    assert_eq!(request.attribute("http.request.method"), "POST");
    assert_eq!(request.attribute("http.route"), "/users");
    assert_eq!(request.attribute("http.response.status_code"), "201");

    let statement = collector.only("insert users insert outbox.event");
    assert_eq!(statement.kind, SpanKind::Client);
    assert_eq!(parents(&statement), (TRACE_ID, request.span_id.as_str()));
    assert_eq!(statement.attribute("db.system.name"), "postgresql");

    let send = collector.only(&format!("send {subject}"));
    assert_eq!(send.kind, SpanKind::Client);
    assert_eq!(parents(&send), (TRACE_ID, request.span_id.as_str()));
    assert_eq!(send.links, [request.ids()]);
    assert_eq!(send.attribute("messaging.system"), "nats");
    assert_eq!(send.attribute("messaging.operation.type"), "send");
    assert_eq!(send.attribute("messaging.destination.name"), subject);
    assert_eq!(send.attribute("messaging.nats.stream_sequence"), "1");
    assert!(!send.is_error);

    let receive = collector.only(&format!("receive {subject}"));
    assert_eq!(receive.kind, SpanKind::Client);
    assert_ne!(receive.trace_id, TRACE_ID);
    assert_eq!(receive.parent_span_id, "");
    assert_eq!(receive.links, [request.ids()]);
    assert_eq!(receive.service, "notification-service");
    assert_eq!(receive.attribute("messaging.batch.message_count"), "1");
    let consumer = receive.attribute("messaging.consumer.group.name");
    assert_eq!(consumer, traced.stack.consumer());

    let process = collector.only(&format!("process {subject}"));
    assert_eq!(process.kind, SpanKind::Consumer);
    assert_eq!(parents(&process), (TRACE_ID, request.span_id.as_str()));
    assert_eq!(process.links, [request.ids(), receive.ids()]);
    assert_eq!(process.attribute("event_consumer.verdict"), "acknowledged");
    assert_eq!(process.attribute("messaging.nats.delivery_count"), "1");
    assert_eq!(process.attribute("messaging.nats.stream_sequence"), "1");
    let message_id = send.attribute("messaging.message.id");
    assert_eq!(process.attribute("messaging.message.id"), message_id);

    let update = collector.only("update user_notifications");
    assert_eq!(update.kind, SpanKind::Client);
    assert_eq!(parents(&update), (TRACE_ID, process.span_id.as_str()));
    assert_eq!(update.attribute("db.system.name"), "mongodb");
    assert_eq!(update.attribute("db.operation.name"), "update");

    let read = collector.only("GET /notifications/user/{id}");
    assert_eq!(parents(&read), (TRACE_ID, CALLER_SPAN_ID));

    assert_eq!(spans.len(), 7, "{spans:#?}");
    for personal in [NAME, email.as_str(), path.as_str()] {
        assert!(!format!("{spans:?}").contains(personal), "{personal}");
    }

    // What the row has is the context of the request's span, and the stream has the same bytes.
    let (traceparent, tracestate) = traced.stored().await.remove(0);
    let expected = format!("00-{TRACE_ID}-{}-01", request.span_id);
    assert_eq!(traceparent.as_deref(), Some(expected.as_str()));
    let published = traced.headers(1).await;
    let published = |name: &str| published.get(name).map(ToString::to_string);
    assert_eq!(published("traceparent"), traceparent);
    assert_eq!(published("tracestate"), tracestate);
    assert_eq!(tracestate.as_deref(), Some("rojo=00f067aa0ba902b7"));
}

fn parents(span: &CollectedSpan) -> (&str, &str) {
    (&span.trace_id, &span.parent_span_id)
}

#[tokio::test]
async fn changes_and_deletions_hand_their_own_context_on() {
    let traced = Traced::new("1").await;
    let users = traced.start("user-service").await;
    let user = users.create("Ada").await;
    let user = users.rename(&user, "Eve").await;
    users.delete(&user).await;
    let requests = ["POST /users", "PUT /users/{id}", "DELETE /users/{id}"];
    traced.exported(&requests).await;
    traced.stopped([users]).await;
    let expected: Vec<_> = requests
        .map(|name| traced.collector.only(name).ids())
        .map(|(trace_id, span_id)| Some(format!("00-{trace_id}-{span_id}-01")))
        .into();
    let stored = traced.stored().await.into_iter().map(|(it, _)| it);
    assert_eq!(stored.collect::<Vec<_>>(), expected);
    for statement in [
        "update users insert outbox.event",
        "delete users insert outbox.event",
    ] {
        assert_eq!(traced.collector.only(statement).kind, SpanKind::Client);
    }
}

#[tokio::test]
async fn requests_that_are_not_sampled_export_nothing_and_keep_the_context_of_their_caller() {
    let traced = Traced::new("0").await;
    let users = traced.start("user-service").await;
    let notifications = traced.start("notification-service").await;
    let unsampled = sampled().replace("-01", "-00");
    let email = format!("{}@example.com", unique("ada"));
    create(&users, NAME, &email, &[("traceparent", &unsampled)]).await;
    users.create("Eve").await;
    traced.stack.converged().await;
    let spans = traced.stopped([users, notifications]).await;
    assert_eq!(spans, []);
    let stored = traced.stored().await;
    let of_caller = stored[0].0.as_deref().expect("a context");
    assert_eq!(&of_caller[..36], &unsampled[..36], "the same trace");
    assert!(of_caller.ends_with("-00"), "{of_caller}");
    let of_nobody = (None, None);
    assert_eq!(stored[1], of_nobody);
}

#[tokio::test]
async fn without_a_collector_the_callers_context_is_handed_on_as_it_came() {
    let traced = Traced::new("1").await;
    let users = traced.stack.users(&[]).await;
    let email = format!("{}@example.com", unique("ada"));
    let headers = [
        ("traceparent", sampled()),
        ("tracestate", "a=1, b=2".to_owned()),
    ];
    let headers = headers
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    create(&users, NAME, &email, &headers).await;
    users.create("Eve").await;
    traced.stack.published(2).await;
    let (first, second) = (traced.headers(1).await, traced.headers(2).await);
    let header = |name: &str| first.get(name).map(ToString::to_string);
    assert_eq!(header("traceparent"), Some(sampled()));
    assert_eq!(header("tracestate").as_deref(), Some("a=1, b=2"));
    assert!(second.get("traceparent").is_none());
}

#[tokio::test]
async fn log_lines_name_the_request_and_its_trace() {
    let mut traced = Traced::new("1").await;
    traced
        .settings
        .push(("RUST_LOG", "info,tower_http=debug".to_owned()));
    let users = traced.start("user-service").await;
    let headers = [
        ("traceparent", sampled()),
        ("x-request-id", "request-7".to_owned()),
    ];
    let headers = headers
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let email = format!("{}@example.com", unique("ada"));
    create(&users, NAME, &email, &headers).await;
    users.create("Eve").await;
    let of_eve = eventually("a span of the second request", async || {
        traced
            .collector
            .named("POST /users")
            .into_iter()
            .find(|it| it.trace_id != TRACE_ID)
    });
    let of_eve = of_eve.await.trace_id;
    let line = async |trace_id: &str| {
        let trace_id = format!(r#""trace_id":"{trace_id}""#);
        eventually("a line of the trace", async || {
            let mut output = users.service.process.output().into_iter();
            output.find(|line| line.contains(&trace_id))
        })
        .await
    };
    assert!(line(TRACE_ID).await.contains(r#""id":"request-7""#));
    // Of a trace that begins here.
    line(&of_eve).await;
}
