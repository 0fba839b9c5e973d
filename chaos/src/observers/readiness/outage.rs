//! Times in which a server was certainly away, and who was ready all the same.

use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug, Clone, Copy)]
pub(super) struct Probe {
    pub(super) sent: Instant,
    pub(super) is_good: bool,
}

/// An answer may be from a look a second ago, which has found the server within a moment between two of our
/// probes. One that still says so after this long is of no such moment.
const MOMENT: Duration = Duration::from_millis(2500);

/// How long the server had been away when the service still said, and said again, that it was ready,
/// although the bound was over.
pub(super) fn ready_though_away(
    service: &[Probe],
    server: &[Probe],
    bound: Duration,
) -> Option<Duration> {
    let outages = server.chunk_by(|one, next| one.is_good == next.is_good);
    outages
        .filter(|probes| !probes[0].is_good)
        .find_map(|probes| {
            let (from, until) = (probes[0].sent, probes[probes.len() - 1].sent);
            let mut ready = (service.iter())
                .filter(|said| said.is_good && said.sent > from + bound && said.sent < until)
                .map(|said| said.sent);
            let first = ready.next()?;
            let last = ready.next_back()?;
            (last - first > MOMENT).then(|| last - from)
        })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Probe, ready_though_away};

    /// Ten a second, good or not from second to second.
    fn probes(start: Instant, seconds: &[bool]) -> Vec<Probe> {
        let probe = |tenth: usize| Probe {
            sent: start + Duration::from_millis(100) * u32::try_from(tenth).expect("a few"),
            is_good: seconds[tenth / 10],
        };
        (0..seconds.len() * 10).map(probe).collect()
    }

    fn is_found(service: &[bool], server: &[bool]) -> bool {
        let start = Instant::now();
        let (service, server) = (probes(start, service), probes(start, server));
        ready_though_away(&service, &server, Duration::from_secs(5)).is_some()
    }

    #[test]
    fn a_service_that_is_ready_without_its_server_is_found() {
        assert!(is_found(&[true; 12], &[false; 12]));
    }

    #[test]
    fn a_service_that_notices_within_the_bound_is_right() {
        let notices = [&[true; 4][..], &[false; 8]].concat();
        assert!(!is_found(&notices, &[false; 12]));
        assert!(!is_found(&[true; 12], &[true; 12]));
    }

    #[test]
    fn outages_that_are_shorter_than_the_bound_are_not_added_up() {
        let mut server = [false; 20];
        for back in [4, 9, 14] {
            server[back] = true;
        }
        assert!(!is_found(&[true; 20], &server));
    }

    #[test]
    fn what_may_be_of_one_moment_proves_nothing() {
        let mut service = [false; 12];
        service[8] = true;
        service[9] = true;
        assert!(!is_found(&service, &[false; 12]));
    }
}
