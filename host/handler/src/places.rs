//! Places for a handler's requests in one child: so many at once, a queue of bounded length for the rest, and of both no
//! more than a share for one client address, so that nobody takes all.
//!
//! The address is the client's, also of a request that another node relayed. IPv6 counts by /64, which is what one client
//! has. A proxy in front that nobody told us to trust is one client: that is why the share is large.

use crate::HandlerError;
use parking_lot::Mutex;
use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};
use tokio::sync::oneshot;

/// Share that one address leaves to all others: a quarter. Of three or less it leaves nothing.
const KEPT_FOR_OTHERS: u32 = 4;

/// The places of one handler, in one child.
#[derive(Debug)]
pub(crate) struct Places {
    in_flight_max: u32,
    queue_max: u32,
    state: Mutex<Occupancy>,
}

#[derive(Debug, Default)]
struct Occupancy {
    taken: u32,
    by_client: HashMap<IpAddr, Count>,
    queue: VecDeque<Waiting>,
    /// The number of the next that waits.
    next: u64,
}

/// Places that one address has.
#[derive(Debug, Default)]
struct Count {
    taken: u32,
    queued: u32,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    client: IpAddr,
    place: oneshot::Sender<Place>,
}

/// A place, given back on drop.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    client: IpAddr,
}

impl Place {
    /// Changes it for one of `others`, for the same client.
    ///
    /// # Errors
    /// There is none; the place is kept.
    pub(crate) fn exchange(self, others: &Arc<Places>) -> Result<Self, Self> {
        if Arc::ptr_eq(&self.places, others) {
            return Ok(self);
        }
        others.try_take(self.client).ok_or(self)
    }
}

/// Leaves the queue on drop.
struct Queued<'a> {
    places: &'a Places,
    number: u64,
}

impl Places {
    pub(crate) fn new(in_flight_max: u32, queue_max: u32) -> Arc<Self> {
        Arc::new(Self {
            in_flight_max,
            queue_max,
            state: Mutex::default(),
        })
    }

    /// A place, if there is one for this client now.
    pub(crate) fn try_take(self: &Arc<Self>, client: IpAddr) -> Option<Place> {
        let client = key(client);
        self.state
            .lock()
            .take(client, self.in_flight_max)
            .then(|| Place {
                places: Arc::clone(self),
                client,
            })
    }

    /// Waits for a place.
    ///
    /// # Errors
    /// The queue is full, or this client's share of it.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the queue.
    pub(crate) async fn take(self: &Arc<Self>, client: IpAddr) -> Result<Place, HandlerError> {
        if let Some(place) = self.try_take(client) {
            return Ok(place);
        }
        let (place, given) = oneshot::channel();
        let entered = (self.state.lock()).enter(key(client), self.queue_max, place);
        let Some(number) = entered else {
            return Err(self.busy());
        };
        let _queued = Queued {
            places: self,
            number,
        };
        // Something may have been given back in between.
        self.give();
        given.await.map_err(|_| self.busy())
    }

    /// The error of a request that gets no place.
    pub(crate) fn busy(&self) -> HandlerError {
        let state = self.state.lock();
        HandlerError::Busy {
            in_flight: state.taken,
            queued: u32::try_from(state.queue.len()).unwrap_or(u32::MAX),
        }
    }

    /// Number of places that are taken.
    pub(crate) fn taken(&self) -> u32 {
        self.state.lock().taken
    }

    /// Gives what is free to those who wait.
    fn give(self: &Arc<Self>) {
        loop {
            let next = self.state.lock().next(self.in_flight_max);
            let Some((client, waiting)) = next else {
                return;
            };
            let place = Place {
                places: Arc::clone(self),
                client,
            };
            // One that has just gone gives it back by dropping it.
            if waiting.send(place).is_ok() {
                return;
            }
        }
    }
}

impl Occupancy {
    fn take(&mut self, client: IpAddr, in_flight_max: u32) -> bool {
        let count = self.by_client.entry(client).or_default();
        let has_room = self.taken < in_flight_max && count.taken < share(in_flight_max);
        if has_room {
            self.taken += 1;
            count.taken += 1;
        } else {
            self.forget(client);
        }
        has_room
    }

    fn enter(
        &mut self,
        client: IpAddr,
        queue_max: u32,
        place: oneshot::Sender<Place>,
    ) -> Option<u64> {
        let count = self.by_client.entry(client).or_default();
        if self.queue.len() >= queue_max as usize || count.queued >= share(queue_max) {
            self.forget(client);
            return None;
        }
        count.queued += 1;
        let number = self.next;
        self.next += 1;
        self.queue.push_back(Waiting {
            number,
            client,
            place,
        });
        Some(number)
    }

    /// The first that waits and may have a place; it is taken.
    fn next(&mut self, in_flight_max: u32) -> Option<(IpAddr, oneshot::Sender<Place>)> {
        if self.taken >= in_flight_max {
            return None;
        }
        let share = share(in_flight_max);
        let by_client = &self.by_client;
        let may = |waiting: &Waiting| {
            (by_client.get(&waiting.client)).is_none_or(|count| count.taken < share)
        };
        let at = self.queue.iter().position(may)?;
        let waiting = self.queue.remove(at)?;
        let count = self.by_client.entry(waiting.client).or_default();
        count.queued -= 1;
        count.taken += 1;
        self.taken += 1;
        Some((waiting.client, waiting.place))
    }

    fn forget(&mut self, client: IpAddr) {
        let has_nothing = |count: &Count| count.taken == 0 && count.queued == 0;
        if self.by_client.get(&client).is_some_and(has_nothing) {
            self.by_client.remove(&client);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        {
            let mut state = self.places.state.lock();
            state.taken -= 1;
            if let Some(count) = state.by_client.get_mut(&self.client) {
                count.taken -= 1;
            }
            state.forget(self.client);
        }
        self.places.give();
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let mut state = self.places.state.lock();
        let number = self.number;
        // Numbers rise from front to back.
        let Ok(at) = state
            .queue
            .binary_search_by_key(&number, |waiting| waiting.number)
        else {
            return;
        };
        if let Some(waiting) = state.queue.remove(at) {
            if let Some(count) = state.by_client.get_mut(&waiting.client) {
                count.queued -= 1;
            }
            state.forget(waiting.client);
        }
    }
}

/// The most that one address may have.
fn share(all: u32) -> u32 {
    all - all / KEPT_FOR_OTHERS
}

fn key(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(client) => Ipv6Addr::from_bits(client.to_bits() & !u128::from(u64::MAX)).into(),
        client => client,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn client(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn one_address_takes_its_share_and_leaves_the_rest_to_others() {
        let places = Places::new(8, 4);
        let taken: Vec<_> = (0..6)
            .map(|_| places.try_take(client(1)).unwrap())
            .collect();
        assert!(places.try_take(client(1)).is_none());
        let others: Vec<_> = (2..4)
            .map(|n| places.try_take(client(n)).unwrap())
            .collect();
        assert!(places.try_take(client(4)).is_none());
        drop(others);
        assert!(places.try_take(client(1)).is_none());
        drop(taken);
        assert!(places.try_take(client(1)).is_some());
        assert!(places.state.lock().by_client.is_empty());
    }

    #[test]
    fn whoever_waits_gets_the_place_of_who_leaves_in_order() {
        let places = Places::new(2, 2);
        let mut taken: Vec<_> = (0..2)
            .map(|_| places.try_take(client(1)).unwrap())
            .collect();
        let mut first = Box::pin(places.take(client(1)));
        let mut second = Box::pin(places.take(client(2)));
        assert!((&mut first).now_or_never().is_none());
        assert!((&mut second).now_or_never().is_none());
        // The queue is full.
        let refused = places.take(client(3)).now_or_never().unwrap();
        assert!(matches!(refused, Err(HandlerError::Busy { .. })));
        taken.pop();
        let got = (&mut first).now_or_never().unwrap().unwrap();
        assert!((&mut second).now_or_never().is_none());
        drop(got);
        assert!((&mut second).now_or_never().unwrap().is_ok());
    }

    #[test]
    fn who_waits_behind_an_address_at_its_share_is_let_past_it() {
        let places = Places::new(4, 8);
        let _three: Vec<_> = (0..3)
            .map(|_| places.try_take(client(1)).unwrap())
            .collect();
        let other = places.try_take(client(2)).unwrap();
        let mut greedy = Box::pin(places.take(client(1)));
        let mut honest = Box::pin(places.take(client(3)));
        assert!((&mut greedy).now_or_never().is_none());
        assert!((&mut honest).now_or_never().is_none());
        drop(other);
        assert!((&mut greedy).now_or_never().is_none());
        assert!((&mut honest).now_or_never().unwrap().is_ok());
    }

    #[test]
    fn one_address_fills_no_more_than_its_share_of_the_queue() {
        let places = Places::new(1, 4);
        let _taken = places.try_take(client(1)).unwrap();
        let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(places.take(client(2)))).collect();
        assert!(waiting.iter_mut().all(|wait| wait.now_or_never().is_none()));
        assert!(places.take(client(2)).now_or_never().unwrap().is_err());
        let mut other = Box::pin(places.take(client(3)));
        assert!((&mut other).now_or_never().is_none());
        drop(waiting);
        assert_eq!(places.state.lock().queue.len(), 1);
    }

    #[test]
    fn a_place_given_to_who_has_gone_goes_to_the_next() {
        let places = Places::new(1, 4);
        let taken = places.try_take(client(1)).unwrap();
        let mut gone = Box::pin(places.take(client(2)));
        assert!((&mut gone).now_or_never().is_none());
        let mut next = Box::pin(places.take(client(3)));
        assert!((&mut next).now_or_never().is_none());
        drop(taken);
        drop(gone);
        assert!((&mut next).now_or_never().unwrap().is_ok());
        assert_eq!(places.state.lock().taken, 0);
    }

    #[test]
    fn an_ipv6_network_is_one_client() {
        let places = Places::new(4, 0);
        let address = |text: &str| -> IpAddr { text.parse().unwrap() };
        let _taken: Vec<_> = ["2001:db8::1", "2001:db8::2", "2001:db8::ffff:3"]
            .map(|text| places.try_take(address(text)).unwrap())
            .into();
        assert!(places.try_take(address("2001:db8::4")).is_none());
        assert!(places.try_take(address("2001:db8:0:1::1")).is_some());
    }
}
