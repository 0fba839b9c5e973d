//! A block of headers as on the wire.

use std::str::FromStr;

use async_nats::{HeaderMap, HeaderName, HeaderValue, StatusCode};

const VERSION: &str = "NATS/1.0";

/// Parses the block as the client does; `None` if the client would not survive it.
pub fn parse(block: &[u8]) -> Option<HeaderMap> {
    let mut lines = str::from_utf8(block).ok()?.lines().peekable();
    let status = lines.next()?.strip_prefix(VERSION)?.trim();
    let status = status.split(' ').next()?.trim();
    if !status.is_empty() {
        StatusCode::from_str(status).ok()?;
    }
    let mut headers = HeaderMap::new();
    while let Some(line) = lines.next() {
        if line.is_empty() {
            continue;
        }
        let (name, value) = line.split_once(':')?;
        // In this order: what follows may begin with what no value may have.
        let mut value = value.trim_start().to_owned();
        while let Some(more) = lines.next_if(|line| line.starts_with(char::is_whitespace)) {
            value.push_str(more);
        }
        let name = HeaderName::from_str(name).ok()?;
        headers.append(name, HeaderValue::from_str(value.trim_end()).ok()?);
    }
    Some(headers)
}

/// The block that [`parse`] reads; empty if there are no headers.
pub fn encode(headers: &HeaderMap) -> Vec<u8> {
    if headers.is_empty() {
        return Vec::new();
    }
    let mut block = format!("{VERSION}\r\n");
    for (name, values) in headers.iter() {
        for value in values {
            block.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    block.push_str("\r\n");
    block.into_bytes()
}

#[cfg(test)]
mod tests {
    use async_nats::HeaderMap;

    use super::{encode, parse};

    #[test]
    fn what_clients_send_is_readable() {
        for headers in [
            "NATS/1.0\r\n\r\n",
            "NATS/1.0\r\nNats-Msg-Id: 1\r\nce-type:user_created\r\n\r\n",
            "NATS/1.0\r\nX: a\r\n and more\r\nX: b\r\n\r\n",
            "NATS/1.0 408 Request Timeout\r\n\r\n",
            "NATS/1.0\r\nX: trailing\r\r\n\r\n",
        ] {
            assert!(parse(headers.as_bytes()).is_some(), "{headers:?}");
        }
    }

    #[test]
    fn what_breaks_the_client_is_not() {
        for headers in [
            &b"NATS/1.0\r\nX: \xff\r\n\r\n"[..],
            b"NATS/1.0\r\nX: a\rb\r\n\r\n",
            b"NATS/1.0\r\nX: \r\n\rb\r\n\r\n",
            b"NATS/1.0\r\nno colon\r\n\r\n",
            b"NATS/1.0\r\na blank: x\r\n\r\n",
            b"NATS/1.0 what\r\n\r\n",
            b"HTTP/1.1\r\n\r\n",
            b"",
        ] {
            assert!(parse(headers).is_none(), "{}", headers.escape_ascii());
        }
    }

    #[test]
    fn headers_survive_being_encoded() {
        let mut headers = HeaderMap::new();
        headers.append("ce-type", "user_created");
        headers.append("X", "a");
        headers.append("X", "b: c");
        assert_eq!(parse(&encode(&headers)), Some(headers));
    }
}
