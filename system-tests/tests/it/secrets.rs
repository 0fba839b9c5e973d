//! Passwords in connection strings stay out of every log, whatever its level.

use std::io::Write;

use testkit::{Service, eventually};

use crate::support::{Api, Stack};

const SECRET: &str = "hunter2";

fn start(stack: &Stack, binary: &str, settings: &[(&'static str, String)]) -> Service {
    let mut environment = stack.environment();
    environment.push(("RUST_LOG", "trace".to_owned()));
    environment.extend_from_slice(settings);
    Service::start(binary, &["serve"], &environment)
}

fn assert_hidden(service: &Service) {
    let output = service.process.output();
    assert!(!output.is_empty());
    let line = output.iter().find(|line| line.contains(SECRET));
    assert_eq!(line, None, "shown");
}

#[tokio::test]
async fn no_password_is_logged_even_at_the_finest_level() {
    let stack = Stack::new().await;
    let nats = stack
        .nats_url
        .replace("nats://", &format!("nats://ada:{SECRET}@"));
    let nats = format!("{nats},nats://eve:{SECRET}@127.0.0.1:1");
    // A parameter that the driver does not know, as after a slip of the pen.
    let postgres = format!("{}&pasword={SECRET}", stack.postgres.url);
    let settings = [("NATS_URL", nats), ("DATABASE_URL", postgres)];
    let users = Api::ready(start(&stack, "user-service", &settings)).await;
    users.create("Ada").await;
    stack.stream().await;
    assert_hidden(&users.service);

    let host = stack.mongo.uri.replace("mongodb://", "");
    let mongodb = format!("mongodb://ada:{SECRET}@{host}");
    let [nats, _] = settings;
    let settings = [nats, ("MONGODB_URI", mongodb)];
    let notifications = start(&stack, "notification-service", &settings);
    eventually("a login that is refused", async || {
        let output = notifications.process.output();
        let is_refused = |line: &String| line.contains("Authentication failed");
        output.iter().any(is_refused).then_some(())
    })
    .await;
    assert_hidden(&notifications);
}

#[tokio::test]
async fn no_password_of_a_malformed_pgpass_file_is_logged() {
    let stack = Stack::new().await;
    let mut file = tempfile::NamedTempFile::new().expect("a file, for its owner only");
    writeln!(file, "{SECRET} without colons").expect("written");
    let path = file.path().to_str().expect("a path in UTF-8").to_owned();
    let without_password = "postgres://ada@127.0.0.1:1/users_db".to_owned();
    let settings = [("DATABASE_URL", without_password), ("PGPASSFILE", path)];
    let service = start(&stack, "user-service", &settings);
    eventually("a connection that is refused", async || {
        let output = service.process.output();
        let is_refused = |line: &String| line.contains("Connection refused");
        output.iter().any(is_refused).then_some(())
    })
    .await;
    assert_hidden(&service);
}

#[tokio::test]
async fn a_connection_string_that_is_not_valid_is_refused_without_being_shown() {
    let stack = Stack::new().await;
    for (binary, variable, text) in [
        (
            "user-service",
            "DATABASE_URL",
            "host=db user=ada password=hunter2",
        ),
        (
            "user-service",
            "DATABASE_URL",
            "postgres://ada:hunter2@db:port/users_db",
        ),
        (
            "user-service",
            "DATABASE_URL",
            "postgres://db/users_db?port=hunter2",
        ),
        (
            "user-service",
            "NATS_URL",
            "nats://a:4222,nats://ada:hunter2@b:port",
        ),
        (
            "notification-service",
            "MONGODB_URI",
            "mongodb://ada:hunter2@db:port/",
        ),
        (
            "notification-service",
            "MONGODB_URI",
            "mongodb://db/?authSource=hunter2&w=hunter2&w=-1",
        ),
        ("notification-service", "NATS_URL", "hunter2 hunter2"),
    ] {
        let mut service = start(&stack, binary, &[(variable, text.to_owned())]);
        let status = service.process.ended().await;
        assert!(!status.success(), "{text}");
        assert_hidden(&service);
        let output = service.process.output().join("\n");
        assert!(output.contains(variable), "{text}: {output}");
    }
}
