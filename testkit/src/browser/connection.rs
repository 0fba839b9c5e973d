//! The DevTools protocol over two pipes: JSON messages that end with a zero byte. It needs no port
//! that something else could reach, and no library: of the protocol's hundreds of commands a dozen
//! are used.

use std::{path::Path, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::unix::pipe,
    time,
};

/// Far above what any command takes.
const DEADLINE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Connection {
    to: pipe::Sender,
    from: BufReader<pipe::Receiver>,
    last_id: u64,
    /// What the browser told of itself meanwhile.
    pub(super) events: Vec<Value>,
}

impl Connection {
    /// Both pipes are named, and exist. Opening them waits for nobody.
    pub(super) fn open(to: &Path, from: &Path) -> Self {
        let mut options = pipe::OpenOptions::new();
        options.read_write(true);
        Self {
            to: options.open_sender(to).expect("a pipe"),
            from: BufReader::new(options.open_receiver(from).expect("a pipe")),
            last_id: 0,
            events: Vec::new(),
        }
    }

    /// Sends a command, of a page unless `session` is empty, and waits for its result.
    pub(super) async fn call(&mut self, session: &str, method: &str, parameters: Value) -> Value {
        let calling = time::timeout(DEADLINE, self.exchange(session, method, parameters));
        let answer = calling.await;
        let answer = answer.unwrap_or_else(|_| panic!("the browser did not answer {method}"));
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }

    async fn exchange(&mut self, session: &str, method: &str, parameters: Value) -> Value {
        self.last_id += 1;
        let id = self.last_id;
        let mut message = json!({ "id": id, "method": method, "params": parameters });
        if !session.is_empty() {
            message["sessionId"] = session.into();
        }
        let bytes = [message.to_string().as_bytes(), b"\0"].concat();
        self.to.write_all(&bytes).await.expect("a browser");
        loop {
            let message = self.read().await;
            if message["id"] == id {
                return message;
            }
            self.events.push(message);
        }
    }

    async fn read(&mut self) -> Value {
        let mut bytes = Vec::new();
        let read = self.from.read_until(0, &mut bytes).await;
        read.expect("a browser that talks");
        bytes.pop();
        serde_json::from_slice(&bytes).expect("a message")
    }
}
