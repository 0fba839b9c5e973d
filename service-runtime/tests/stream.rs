//! The stream's settings on a real server.

use async_nats::jetstream::{self, stream::Config};
use service_runtime::nats::{
    ConsumerName, Topic,
    stream::{StreamSettings, create_or_update, create_or_update_dead_letters},
};
use testkit::{nats, unique};

#[tokio::test]
async fn streams_of_an_earlier_release_are_brought_up_to_date_and_keep_what_an_operator_set() {
    let client = async_nats::connect(nats::shared_url()).await;
    let jetstream = jetstream::new(client.expect("the NATS server"));
    let topic = Topic {
        stream: unique("EVENTS"),
        subject: unique("events"),
    };
    let consumer: ConsumerName = "one".parse().expect("a name");
    for earlier in [topic.clone(), topic.dead_letters()] {
        let config = Config {
            name: earlier.stream,
            subjects: vec![earlier.subject],
            max_messages: 1_000,
            ..Config::default()
        };
        jetstream.create_stream(config).await.expect("created");
    }

    let settings = StreamSettings::default();
    let updated = create_or_update(&jetstream, &topic, &settings).await;
    updated.expect("up to date");
    let updated = create_or_update_dead_letters(&jetstream, &topic, &settings).await;
    updated.expect("up to date");

    let dead_letters = topic.dead_letters().stream;
    for (subject, stream) in [
        (topic.subject.clone(), &topic.stream),
        (consumer.replays(&topic), &topic.stream),
        (consumer.dead_letters(&topic), &dead_letters),
    ] {
        let stored = jetstream.publish(subject.clone(), "body".into()).await;
        let stored = stored.expect("sent").await.expect(&subject);
        assert_eq!(stored.stream, *stream, "{subject}");
        let mut stream = jetstream.get_stream(stream).await.expect("the stream");
        let config = &stream.info().await.expect("its state").config;
        assert_eq!(config.max_messages, 1_000);
    }
}
