//! Time that a server has until the head of its response. Only its own time counts: while the client is waited for, the
//! pace of the request's body is what is judged, and the connection to the client judges that.

use std::time::Duration;
use tokio::time::Instant;

/// Side that has to move next in an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AwaitedSide {
    /// The client has to bring more of the request's body.
    Client,
    /// The server has to take what was sent to it of the request's body.
    Room,
    /// The server has the whole request and has to answer.
    Response,
}

/// The side that missed a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LateSide {
    Client,
    Server,
}

/// Deadlines of one request, over all attempts.
#[derive(Debug)]
pub(super) struct ResponseDeadlines {
    /// Longest time from the end of the request to the head of the response.
    first_byte: Duration,
    /// Longest time between two writes of the request's body.
    pub(super) idle: Duration,
    /// Deadline of the total timeout, which counts the client's time, too.
    pub(super) total_at: Option<Instant>,
    started: Instant,
    /// Since when the server is waited for; `None` while the client is.
    since: Option<Instant>,
    /// Pieces of the body that the server had taken by the last call of [`Self::until`].
    taken: u64,
}

impl ResponseDeadlines {
    /// Begins with a wait for the server, at `started`. `total` spans everything.
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

    /// Deadline of the wait that goes on, if it has one. `taken` counts the pieces of the body that the server took:
    /// each gives it time for the next.
    pub(super) fn until(&mut self, awaited: AwaitedSide, taken: u64) -> Option<Instant> {
        if std::mem::replace(&mut self.taken, taken) != taken {
            self.since = None;
        }
        let limit = match awaited {
            AwaitedSide::Client => {
                self.since = None;
                return self.total_at;
            }
            AwaitedSide::Room => self.idle,
            AwaitedSide::Response => self.first_byte,
        };
        let at = *self.since.get_or_insert_with(Instant::now) + limit;
        Some(self.total_at.map_or(at, |total| total.min(at)))
    }

    /// Deadline of a wait for the server alone, as for a connection.
    pub(super) fn for_server(&mut self) -> Instant {
        let since = *self.since.get_or_insert_with(Instant::now);
        let at = since + self.first_byte;
        self.total_at.map_or(at, |total| total.min(at))
    }

    /// Side that missed its deadline. At the total timeout it is the side that took more of the time.
    pub(super) fn late(&self) -> LateSide {
        let now = Instant::now();
        match (self.since, self.total_at) {
            (None, _) => LateSide::Client,
            (Some(since), Some(total)) if total <= now && now - since < since - self.started => {
                LateSide::Client
            }
            _ => LateSide::Server,
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
        let mut deadlines = ResponseDeadlines::new(start, SECOND, 2 * SECOND, None);
        assert_eq!(
            deadlines.until(AwaitedSide::Response, 0),
            Some(start + SECOND)
        );
        assert_eq!(deadlines.until(AwaitedSide::Client, 0), None);
        assert_eq!(deadlines.late(), LateSide::Client);
        let later = Instant::now();
        let until = deadlines.until(AwaitedSide::Room, 0).unwrap();
        assert!(until >= later + 2 * SECOND);
        assert_eq!(deadlines.until(AwaitedSide::Room, 0), Some(until));
        // A piece was taken, and then the last one.
        assert!(deadlines.until(AwaitedSide::Room, 1).unwrap() > until);
        let until = deadlines.until(AwaitedSide::Response, 2).unwrap();
        assert!(until >= later + SECOND && until < later + 2 * SECOND);
        assert_eq!(deadlines.until(AwaitedSide::Response, 2), Some(until));
        assert_eq!(deadlines.late(), LateSide::Server);
    }

    #[test]
    fn who_took_most_of_the_time_for_everything_is_to_blame() {
        let now = Instant::now();
        for (clients, servers, late) in [(7, 3, LateSide::Client), (3, 7, LateSide::Server)] {
            let start = now - 10 * SECOND;
            let total = Some(10 * SECOND);
            let mut deadlines = ResponseDeadlines::new(start, 60 * SECOND, 60 * SECOND, total);
            assert_eq!(deadlines.until(AwaitedSide::Client, 1), Some(now));
            assert_eq!(deadlines.until(AwaitedSide::Response, 1), Some(now));
            deadlines.since = Some(start + clients * SECOND);
            assert_eq!(now - start, (clients + servers) * SECOND);
            assert_eq!(deadlines.late(), late);
        }
    }
}
