//! Time that a server has until the head of its response. Only its own time counts: while the client is waited for, the
//! pace of the request's body is what is judged, and the connection to the client judges that.

use std::time::Duration;
use tokio::time::Instant;

/// The side whose turn it is in an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    /// The client has to bring more of the request's body.
    Client,
    /// The server has to take what was sent to it of the request's body.
    Room,
    /// The server has the whole request and has to answer.
    Response,
}

/// The side that missed a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Late {
    Client,
    Server,
}

/// The time that a server has for one request, over all attempts.
#[derive(Debug)]
pub(super) struct Patience {
    /// From the end of the request to the head of the response.
    first_byte: Duration,
    /// Between two writes of the request's body.
    pub(super) idle: Duration,
    /// The total timeout's end: it counts the client's time, too.
    pub(super) total_at: Option<Instant>,
    started: Instant,
    /// Since when the server is waited for; `None` while the client is.
    since: Option<Instant>,
    /// Pieces of the body that the server had taken by the last call of [`Self::until`].
    taken: u64,
}

impl Patience {
    /// Starts with a wait for the server, from `started` on; `total` is for everything.
    pub(super) fn new(
        started: Instant,
        first_byte: Duration,
        idle: Duration,
        total: Option<Duration>,
    ) -> Self {
        Self {
            first_byte,
            idle,
            total_at: total.map(|total| started + total),
            started,
            since: Some(started),
            taken: 0,
        }
    }

    /// When the wait that goes on is given up, if it ever is. `taken` counts the pieces of the body that the server
    /// took: each of them gives it time for the next.
    pub(super) fn until(&mut self, awaited: Awaited, taken: u64) -> Option<Instant> {
        if std::mem::replace(&mut self.taken, taken) != taken {
            self.since = None;
        }
        let limit = match awaited {
            Awaited::Client => {
                self.since = None;
                return self.total_at;
            }
            Awaited::Room => self.idle,
            Awaited::Response => self.first_byte,
        };
        let at = *self.since.get_or_insert_with(Instant::now) + limit;
        Some(self.total_at.map_or(at, |total| total.min(at)))
    }

    /// When a wait for the server alone is given up, as for a connection.
    pub(super) fn for_server(&mut self) -> Instant {
        let since = *self.since.get_or_insert_with(Instant::now);
        let at = since + self.first_byte;
        self.total_at.map_or(at, |total| total.min(at))
    }

    /// The side whose time is over. Where it is the time for everything, whoever took the larger part of it is to
    /// blame.
    pub(super) fn late(&self) -> Late {
        let now = Instant::now();
        match (self.since, self.total_at) {
            (None, _) => Late::Client,
            (Some(since), Some(total)) if total <= now && now - since < since - self.started => {
                Late::Client
            }
            _ => Late::Server,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_servers_clock_stands_while_the_client_is_waited_for() {
        let start = Instant::now();
        let mut patience = Patience::new(start, SECOND, 2 * SECOND, None);
        assert_eq!(patience.until(Awaited::Response, 0), Some(start + SECOND));
        assert_eq!(patience.until(Awaited::Client, 0), None);
        assert_eq!(patience.late(), Late::Client);
        let later = Instant::now();
        let until = patience.until(Awaited::Room, 0).unwrap();
        assert!(until >= later + 2 * SECOND);
        assert_eq!(patience.until(Awaited::Room, 0), Some(until));
        // A piece was taken, and then the last one.
        assert!(patience.until(Awaited::Room, 1).unwrap() > until);
        let until = patience.until(Awaited::Response, 2).unwrap();
        assert!(until >= later + SECOND && until < later + 2 * SECOND);
        assert_eq!(patience.until(Awaited::Response, 2), Some(until));
        assert_eq!(patience.late(), Late::Server);
    }

    #[test]
    fn who_took_most_of_the_time_for_everything_is_to_blame() {
        let now = Instant::now();
        for (clients, servers, late) in [(7, 3, Late::Client), (3, 7, Late::Server)] {
            let start = now - 10 * SECOND;
            let total = Some(10 * SECOND);
            let mut patience = Patience::new(start, 60 * SECOND, 60 * SECOND, total);
            assert_eq!(patience.until(Awaited::Client, 1), Some(now));
            assert_eq!(patience.until(Awaited::Response, 1), Some(now));
            patience.since = Some(start + clients * SECOND);
            assert_eq!(now - start, (clients + servers) * SECOND);
            assert_eq!(patience.late(), late);
        }
    }
}
