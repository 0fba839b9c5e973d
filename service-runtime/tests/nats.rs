//! Being let in by a NATS server that is particular, over TLS, with certificates of this test's own.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use nkeys::KeyPair;
use service_runtime::nats::{self, NatsSettings};
use testkit::{Authority, eventually, nats::Server};

const DEADLINE: Duration = Duration::from_secs(60);

/// Files of an authority, of a server and a client that it vouches for, and of an nkey.
struct Files {
    authority: Authority,
    nkey: KeyPair,
}

impl Files {
    fn new() -> Self {
        let authority = Authority::new();
        authority.issue("server");
        authority.issue("client");
        let nkey = KeyPair::new_user();
        let seed = nkey.seed().expect("a seed") + "\n";
        fs::write(authority.path("nkey"), seed).expect("a file");
        Self { authority, nkey }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.authority.path(name)
    }

    /// Takes only clients with a certificate of the authority and with the nkey.
    async fn server(&self) -> Server {
        let configuration = format!(
            r#"
            tls {{
                cert_file: "{}", key_file: "{}", ca_file: "{}", verify: true
            }}
            authorization {{ users: [ {{ nkey: {} }} ] }}
            "#,
            self.path("server.pem").display(),
            self.path("server.key").display(),
            self.path("ca.pem").display(),
            self.nkey.public_key(),
        );
        fs::write(self.path("nats.conf"), configuration).expect("a file");
        let file = self.path("nats.conf");
        Server::start_with(&["-c", path(&file)]).await
    }
}

/// How many clients the server has turned away.
fn refusals(server: &mut Server) -> usize {
    let output = server.process().output();
    let is_refusal = |line: &&String| {
        line.contains("TLS handshake error") || line.contains("authentication error")
    };
    output.iter().filter(is_refusal).count()
}

fn path(file: &Path) -> &str {
    file.to_str().expect("a path in UTF-8")
}

#[tokio::test]
async fn with_certificate_and_nkey_we_are_let_in_and_without_we_are_not() {
    let files = Files::new();
    let mut server = files.server().await;
    let url = format!("tls://127.0.0.1:{}", server.port());
    let settings = NatsSettings {
        ca_file: Some(files.path("ca.pem")),
        certificate_file: Some(files.path("client.pem")),
        key_file: Some(files.path("client.key")),
        nkey_file: Some(files.path("nkey")),
        ..NatsSettings::open(url.parse().expect("a URL"))
    };
    let client = nats::connect(&settings, "test")
        .await
        .expect("valid settings");
    client.flush().await.expect("an answer");

    let cases = [
        (
            "the authority",
            NatsSettings {
                ca_file: None,
                ..settings.clone()
            },
        ),
        (
            "the certificate",
            NatsSettings {
                certificate_file: None,
                key_file: None,
                ..settings.clone()
            },
        ),
        (
            "the nkey",
            NatsSettings {
                nkey_file: None,
                ..settings.clone()
            },
        ),
    ];
    for (what, settings) in cases {
        let before = refusals(&mut server);
        // It goes on trying.
        let refused = eventually("two refusals", async || {
            (refusals(&mut server) >= before + 2).then_some(())
        });
        tokio::select! {
            connected = nats::connect(&settings, "test") => panic!("without {what}: {connected:?}"),
            () = refused => {}
        }
    }
}

#[tokio::test]
async fn a_file_that_is_not_what_it_should_be_is_a_fault_and_never_shown() {
    let files = Files::new();
    let open = NatsSettings::open("nats://127.0.0.1:1".parse().expect("a URL"));
    let bad = [
        NatsSettings {
            credentials_file: Some(files.path("nkey")),
            ..open.clone()
        },
        NatsSettings {
            credentials_file: Some(files.path("none")),
            ..open.clone()
        },
        NatsSettings {
            nkey_file: Some(files.path("none")),
            ..open
        },
    ];
    let seed = files.nkey.seed().expect("a seed");
    for settings in bad {
        let error = nats::connect(&settings, "test").await.expect_err("a fault");
        let error = format!("{error:#}");
        assert!(!error.contains(&seed), "{error}");
        assert!(error.contains(path(&files.path(""))), "{error}");
    }
}

#[tokio::test]
async fn the_credentials_in_a_url_let_us_in() {
    let cases = [
        ("user: us, password: \"p@ss:w/rd\"", "us:p%40ss%3Aw%2Frd"),
        ("token: \"a token\"", "a%20token"),
    ];
    for (authorization, credentials) in cases {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("nats.conf");
        fs::write(&file, format!("authorization {{ {authorization} }}")).expect("a file");
        let server = Server::start_with(&["-c", path(&file)]).await;
        let url = format!("nats://{credentials}@127.0.0.1:{}", server.port());
        let settings = NatsSettings::open(url.parse().expect("a URL"));
        let client = tokio::time::timeout(DEADLINE, nats::connect(&settings, "test")).await;
        let client = client.expect("let in").expect("valid settings");
        client.flush().await.expect("an answer");
    }
}
