//! A headless Chromium of a test's own, with one page.

mod connection;

use std::{collections::BTreeSet, env, fs, path::Path, thread, time::Duration};

use nix::{sys::stat::Mode, unistd::mkfifo};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time;

use self::connection::Connection;
use crate::{DEADLINE, POLL_INTERVAL, Process};

/// Ends with the test, its profile included, also if the test fails.
#[derive(Debug)]
pub struct Browser {
    connection: Connection,
    /// Of the page.
    session: String,
    process: Process,
    profile: Option<TempDir>,
}

impl Browser {
    /// Starts it and opens `url`.
    ///
    /// # Panics
    /// If Chromium is not installed, or does not answer within a minute.
    pub async fn open(url: &str) -> Self {
        let mut browser = Self::start().await;
        browser.navigate(url).await;
        browser
    }

    async fn start() -> Self {
        let profile = tempfile::tempdir().expect("a temporary directory");
        let pipe = |name| {
            let path = profile.path().join(name);
            mkfifo(&path, Mode::S_IRWXU).expect("a pipe");
            path
        };
        let (commands, answers) = (pipe("commands"), pipe("answers"));
        let mut connection = Connection::open(&commands, &answers);
        let process = spawn(profile.path(), &commands, &answers);
        let target = json!({ "url": "about:blank" });
        let target = connection.call("", "Target.createTarget", target).await;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = connection.call("", "Target.attachToTarget", attach).await;
        let mut browser = Self {
            connection,
            session: text(&attached["sessionId"]),
            process,
            profile: Some(profile),
        };
        for domain in ["Page", "Runtime", "Log", "Network", "Accessibility"] {
            browser.call(&format!("{domain}.enable"), json!({})).await;
        }
        browser
    }

    /// Loads a page, as if its address were typed.
    pub async fn navigate(&mut self, url: &str) {
        let answer = self.call("Page.navigate", json!({ "url": url })).await;
        assert!(answer.get("errorText").is_none(), "{url}: {answer}");
    }

    /// The value of an expression; a promise is awaited.
    ///
    /// # Panics
    /// If it throws.
    pub async fn evaluate(&mut self, expression: &str) -> Value {
        let parameters =
            json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", parameters).await;
        let exception = answer.get("exceptionDetails");
        assert!(exception.is_none(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    ///
    /// # Panics
    /// If it is not within a minute; the message holds the text of the page.
    pub async fn shows(&mut self, what: &str, expression: &str) {
        let waiting = async {
            while self.evaluate(expression).await != true {
                time::sleep(POLL_INTERVAL).await;
            }
        };
        if time::timeout(DEADLINE, waiting).await.is_err() {
            let text = self.evaluate("document.body.innerText").await;
            panic!("still waiting for {what}; the page says: {text}");
        }
    }

    /// What an element says; empty if there is none.
    pub async fn text_of(&mut self, selector: &str) -> String {
        let expression = format!("document.querySelector({selector:?})?.textContent ?? ''");
        text(&self.evaluate(&expression).await)
    }

    /// Clicks an element once it is there and can be used.
    pub async fn click(&mut self, selector: &str) {
        let it = format!("document.querySelector({selector:?})");
        let usable = format!("{it} !== null && !{it}.disabled");
        self.shows(&format!("{selector} to be usable"), &usable)
            .await;
        self.evaluate(&format!("{it}.click()")).await;
    }

    /// Replaces what an input holds by typing.
    pub async fn fill(&mut self, selector: &str, text: &str) {
        let select = format!("document.querySelector({selector:?}).select()");
        self.evaluate(&select).await;
        self.insert(text).await;
    }

    /// Types into whatever has the focus.
    pub async fn insert(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text })).await;
    }

    /// Presses a key, such as `Tab`, `Enter` or a space.
    pub async fn press(&mut self, key: &str) {
        let (code, number, text) = match key {
            "Tab" => ("Tab", 9, ""),
            "Enter" => ("Enter", 13, "\r"),
            " " => ("Space", 32, " "),
            other => panic!("{other:?} is not known here"),
        };
        for kind in ["keyDown", "keyUp"] {
            let mut event =
                json!({ "type": kind, "key": key, "code": code, "windowsVirtualKeyCode": number });
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = text.into();
            }
            self.call("Input.dispatchKeyEvent", event).await;
        }
    }

    /// As if this were set in the system: a media feature such as `prefers-color-scheme`.
    pub async fn prefer(&mut self, feature: &str, value: &str) {
        let features = json!([{ "name": feature, "value": value }]);
        let parameters = json!({ "features": features });
        self.call("Emulation.setEmulatedMedia", parameters).await;
    }

    pub async fn resize(&mut self, width: u32, height: u32) {
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// The role and the name of everything that assistive technology is told of.
    pub async fn accessibility_tree(&mut self) -> Vec<(String, String)> {
        let answer = self.call("Accessibility.getFullAXTree", json!({})).await;
        let nodes = answer["nodes"].as_array().expect("a list").iter();
        let nodes = nodes.filter(|node| node["ignored"] != true);
        nodes
            .map(|node| (text(&node["role"]["value"]), text(&node["name"]["value"])))
            .collect()
    }

    /// Errors of the page itself: exceptions, errors written to the console, and violations of its
    /// policy. That a request was answered by a failure is not the page's doing.
    pub async fn faults(&mut self) -> Vec<Value> {
        self.evaluate("0").await;
        let events = self.connection.events.iter();
        let faults = events.filter(|event| match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => event["params"]["type"] == "error",
            Some("Log.entryAdded") => {
                let entry = &event["params"]["entry"];
                entry["level"] == "error" && entry["source"] != "network"
            }
            _ => false,
        });
        faults.cloned().collect()
    }

    /// `scheme://host:port` of each request so far.
    pub async fn requested_origins(&mut self) -> BTreeSet<String> {
        self.evaluate("0").await;
        let events = self.connection.events.iter();
        let requests = events.filter(|event| event["method"] == "Network.requestWillBeSent");
        let urls = requests.filter_map(|event| event["params"]["request"]["url"].as_str());
        urls.filter(|url| !url.starts_with("data:"))
            .map(|url| url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/"))
            .collect()
    }

    async fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.connection
            .call(&self.session, method, parameters)
            .await
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.process.kill();
        let profile = self.profile.take().expect("it is dropped once").keep();
        // Its other processes end soon after the first one, and write until then.
        for _ in 0..100 {
            if fs::remove_dir_all(&profile).is_ok() || !profile.exists() {
                return;
            }
            thread::park_timeout(Duration::from_millis(20));
        }
        println!("left behind: {}", profile.display());
    }
}

/// The pipes are the descriptors 3 and 4, where Chromium looks for them.
fn spawn(profile: &Path, commands: &Path, answers: &Path) -> Process {
    const REDIRECTED: &str = r#"exec "${@:3}" 3<"$1" 4>"$2""#;
    let path = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
    let profile = path(profile);
    let arguments = [
        "-c".to_owned(),
        REDIRECTED.to_owned(),
        "bash".to_owned(),
        path(commands),
        path(answers),
        program(),
        "--headless=new".to_owned(),
        "--remote-debugging-pipe".to_owned(),
        // Containers and root have none. What is opened is ours.
        "--no-sandbox".to_owned(),
        "--disable-gpu".to_owned(),
        "--disable-dev-shm-usage".to_owned(),
        "--disable-background-networking".to_owned(),
        "--no-first-run".to_owned(),
        "--window-size=1440,900".to_owned(),
        format!("--user-data-dir={profile}"),
    ];
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let environment = [("HOME", profile.clone()), ("TMPDIR", profile)];
    Process::spawn("bash", &arguments, &environment)
}

/// From `CHROMIUM_BIN`, else the one that is installed.
#[expect(clippy::disallowed_methods, reason = "tests have no command line")]
fn program() -> String {
    let program = env::var("CHROMIUM_BIN").unwrap_or_else(|_| "chromium".to_owned());
    let path = env::var("PATH").unwrap_or_default();
    let is_there = env::split_paths(&path).any(|directory| directory.join(&program).is_file());
    assert!(
        is_there,
        "{program} is needed: install the package chromium, or name a browser with CHROMIUM_BIN"
    );
    program
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
