//! Who a request counts against: the address by which all limits per client are kept.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use axum::{
    extract::{ConnectInfo, FromRequestParts, Request},
    http::{HeaderMap, HeaderName, request::Parts},
};
use tower_governor::{GovernorError, key_extractor::KeyExtractor};

use crate::problem::{Kind, Problem};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// What one IPv6 customer gets at least: whoever has one such network can send from any address
/// in it.
const IPV6_NETWORK_BITS: u32 = 64;

/// An IPv4 address, or the /64 network of an IPv6 address.
///
/// Handlers take it as an argument; it is there for every request of [`super::serve`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientAddress(IpAddr);

impl ClientAddress {
    /// An IPv4 address written as IPv6 (`::ffff:192.0.2.1`) is the IPv4 address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => {
                let network = u128::from(address) & (u128::MAX << (128 - IPV6_NETWORK_BITS));
                Ipv6Addr::from(network).into()
            }
        })
    }

    /// The peer's address, or with trusted proxies the one that the outermost of them has seen.
    ///
    /// Each proxy appends the address of its own peer to `X-Forwarded-For`, so only the last
    /// `trusted_hops` entries are written by trusted proxies; what is left of them is whatever
    /// the client sent. If there are fewer entries, or ours is not an address, the request counts
    /// against the peer: all such requests share one limit, so a forged header gains nothing.
    fn from_request(peer: IpAddr, headers: &HeaderMap, trusted_hops: u8) -> Self {
        let forwarded = match usize::from(trusted_hops) {
            0 => None,
            hops => forwarded_for(headers, hops),
        };
        Self::of(forwarded.unwrap_or(peer))
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(f, "{address}"),
            IpAddr::V6(network) => write!(f, "{network}/{IPV6_NETWORK_BITS}"),
        }
    }
}

impl fmt::Debug for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The `position`-th entry from the right, from 1, over all lines of the header.
fn forwarded_for(headers: &HeaderMap, position: usize) -> Option<IpAddr> {
    let lines = headers.get_all(X_FORWARDED_FOR).into_iter().rev();
    let entry = lines
        .flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','))
        .nth(position - 1)?;
    parse_entry(str::from_utf8(entry).ok()?.trim())
}

/// Some proxies add the port, and then brackets.
fn parse_entry(entry: &str) -> Option<IpAddr> {
    let bracketed = || entry.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || Some(entry.parse::<SocketAddr>().ok()?.ip());
    (entry.parse().ok())
        .or_else(with_port)
        .or_else(|| bracketed().map(IpAddr::V6))
}

/// Adds the client's address to the request.
pub(super) fn identify(mut request: Request, trusted_hops: u8) -> Request {
    if let Some(ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<SocketAddr>>() {
        let client = ClientAddress::from_request(peer.ip(), request.headers(), trusted_hops);
        request.extensions_mut().insert(client);
    }
    request
}

impl<S: Sync> FromRequestParts<S> for ClientAddress {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get().copied().ok_or_else(|| {
            tracing::error!("the address of a client is unknown");
            Problem::new(Kind::INTERNAL)
        })
    }
}

/// Limits the rate by [`ClientAddress`].
#[derive(Debug, Clone, Copy)]
pub(super) struct ByClientAddress;

impl KeyExtractor for ByClientAddress {
    type Key = ClientAddress;

    fn extract<T>(&self, request: &axum::http::Request<T>) -> Result<Self::Key, GovernorError> {
        let client = request.extensions().get().copied();
        client.ok_or(GovernorError::UnableToExtractKey)
    }
}

/// The value of the former setting `TRUST_FORWARDED_FOR`, which did not say how many proxies there
/// are.
///
/// # Errors
/// If it was switched on.
pub(super) fn replaced_by_trusted_hops(value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "" | "0" | "n" | "no" | "f" | "false" | "off" => Ok(false),
        _ => Err("was replaced: set TRUSTED_HOPS to the number of trusted proxies".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderValue};

    use super::{ClientAddress, X_FORWARDED_FOR};

    const PROXY: &str = "10.0.0.1";

    fn client(lines: &[&'static str], trusted_hops: u8) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(X_FORWARDED_FOR, HeaderValue::from_static(line));
        }
        let peer = PROXY.parse().expect("an address");
        ClientAddress::from_request(peer, &headers, trusted_hops).to_string()
    }

    #[test]
    fn without_trusted_proxies_the_header_is_ignored() {
        assert_eq!(client(&["192.0.2.1"], 0), PROXY);
    }

    #[test]
    fn trusted_hops_are_counted_from_the_right_over_all_lines() {
        let lines = ["198.51.100.66, 198.51.100.77", "192.0.2.1,192.0.2.2"];
        assert_eq!(client(&lines, 1), "192.0.2.2");
        assert_eq!(client(&lines, 2), "192.0.2.1");
        assert_eq!(client(&lines, 3), "198.51.100.77");
    }

    #[test]
    fn what_a_client_sends_itself_changes_nothing() {
        for forged in ["198.51.100.66", "", "unknown, ,,", "\"1\"", "1.2.3.4,"] {
            let lines: [&'static str; 2] = [forged, "192.0.2.1"];
            assert_eq!(client(&lines, 1), "192.0.2.1", "{forged}");
        }
    }

    #[test]
    fn a_missing_or_malformed_entry_counts_against_the_peer() {
        for lines in [&[][..], &["192.0.2.1"], &["unknown, 192.0.2.1"], &[" ,1"]] {
            assert_eq!(client(lines, 2), PROXY, "{lines:?}");
        }
    }

    #[test]
    fn addresses_with_ports_and_brackets_are_understood() {
        assert_eq!(client(&["192.0.2.1:4711"], 1), "192.0.2.1");
        assert_eq!(
            client(&["[2001:db8:1:2:3::4]:4711"], 1),
            "2001:db8:1:2::/64"
        );
        assert_eq!(client(&["[2001:db8:1:2:3::4]"], 1), "2001:db8:1:2::/64");
    }

    #[test]
    fn an_ipv6_network_is_one_client_and_mapped_ipv4_is_ipv4() {
        let of = |address: &str| ClientAddress::of(address.parse().expect("an address"));
        assert_eq!(
            of("2001:db8:1:2::1"),
            of("2001:db8:1:2:ffff:ffff:ffff:ffff")
        );
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
