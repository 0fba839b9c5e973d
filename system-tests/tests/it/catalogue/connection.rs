//! A connection for requests that no client would send.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time,
};

/// Above every deadline of the services.
const DEADLINE: Duration = Duration::from_secs(40);

pub(super) struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Names are in lower case.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find_map(|(it, value)| (it == name).then_some(value.as_str()))
    }
}

impl Connection {
    /// Sends the request; a service that has answered need not read all of it.
    pub(super) async fn send(address: &str, request: &[u8]) -> Self {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        let _ = time::timeout(DEADLINE, stream.write_all(request)).await;
        Self {
            stream,
            received: Vec::new(),
        }
    }

    /// The next answer; `None` if the connection ends before it is whole.
    pub(super) async fn answer(&mut self, to_head: bool) -> Option<Answer> {
        let mut answer = loop {
            let head = self.until(b"\r\n\r\n").await?;
            let answer = parse(&head)?;
            if answer.status >= 200 {
                break answer;
            }
        };
        let length = answer
            .header("content-length")
            .and_then(|it| it.parse().ok());
        let is_feed = answer.header("content-type") == Some("text/event-stream");
        answer.body = match length {
            _ if to_head || is_feed || [204, 304].contains(&answer.status) => Vec::new(),
            Some(length) => self.exactly(length).await?,
            None => self.chunks().await?,
        };
        Some(answer)
    }

    /// Waits for the end of the connection; what came before it.
    pub(super) async fn rest(&mut self) -> Vec<u8> {
        while self.receive().await {}
        std::mem::take(&mut self.received)
    }

    async fn chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.until(b"\r\n").await?;
            let size = usize::from_str_radix(str::from_utf8(&line).ok()?.trim(), 16).ok()?;
            body.extend(self.exactly(size).await?);
            self.until(b"\r\n").await?;
            if size == 0 {
                return Some(body);
            }
        }
    }

    async fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            let mut places = self.received.windows(end.len());
            if let Some(at) = places.position(|it| it == end) {
                return Some(self.received.drain(..at + end.len()).collect());
            }
            if !self.receive().await {
                return None;
            }
        }
    }

    async fn exactly(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.received.len() < length {
            if !self.receive().await {
                return None;
            }
        }
        Some(self.received.drain(..length).collect())
    }

    /// False at the end, which may be a reset.
    async fn receive(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        let received = time::timeout(DEADLINE, self.stream.read(&mut buffer)).await;
        let length = received.expect("an answer or the end").unwrap_or(0);
        self.received.extend_from_slice(&buffer[..length]);
        length > 0
    }
}

fn parse(head: &[u8]) -> Option<Answer> {
    let head = str::from_utf8(head).ok()?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines.filter_map(|line| line.split_once(':'));
    Some(Answer {
        status,
        headers: headers
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect(),
        body: Vec::new(),
    })
}
