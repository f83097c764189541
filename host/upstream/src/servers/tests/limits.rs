use super::*;
use std::future::Future;
use tokio::task::yield_now;

fn full(upstream: &mut Upstream) {
    upstream.in_flight_max = 1;
    upstream.queue_max = 2;
    upstream.queue_timeout_ms = 60_000;
}

#[test]
fn an_empty_group_has_no_server() {
    let servers = with(0, |_| {});
    let found = servers.pick(None, 0, servers.epoch).map(|l| l.index());
    assert_eq!(found, Err(Unavailable::NoServer));
}

#[test]
fn limits_are_divided_among_children_and_at_least_one() {
    let mut upstream = upstream(1);
    upstream.in_flight_max = 10;
    upstream.queue_max = 3;
    for (children, in_flight_max, queue_max) in [(1, 10, 3), (4, 2, 1), (100, 1, 1)] {
        let servers = Servers::new(&upstream, children);
        let held: Vec<_> =
            std::iter::from_fn(|| servers.pick(None, 0, servers.epoch).ok()).collect();
        assert_eq!(held.len(), in_flight_max, "{children}");
        assert_eq!(servers.queue_max, queue_max);
    }
}

#[test]
fn a_full_server_takes_none_and_keys_go_to_the_next() {
    let servers = with(2, |upstream| {
        upstream.in_flight_max = 1;
        upstream.balance = Balance::Key;
    });
    let first = servers.pick(Some(1), 0, servers.epoch).unwrap();
    let second = servers.pick(Some(1), 0, servers.epoch).unwrap();
    assert_ne!(first.index(), second.index());
    let third = servers.pick(Some(1), 0, servers.epoch).map(|l| l.index());
    assert_eq!(third, Err(Unavailable::Full));
    let index = first.index();
    drop(first);
    assert_eq!(
        servers.pick(Some(1), 0, servers.epoch).unwrap().index(),
        index
    );
}

#[tokio::test]
async fn waiting_requests_are_served_in_order() {
    let servers = with(1, full);
    let held = servers.pick(None, 0, Instant::now()).unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let wait = |name: u8| {
        let (servers, order) = (Arc::clone(&servers), Arc::clone(&order));
        tokio::spawn(async move {
            let lease = servers.wait(None, 0).await.unwrap();
            order.lock().push(name);
            lease
        })
    };
    let first = wait(1);
    yield_now().await;
    let second = wait(2);
    yield_now().await;
    assert_eq!(
        servers.wait(None, 0).await.map(|l| l.index()),
        Err(Unavailable::QueueFull)
    );
    drop(held);
    let late = servers.pick(None, 0, Instant::now()).map(|l| l.index());
    assert_eq!(
        late,
        Err(Unavailable::Full),
        "there is a place, and it is not theirs"
    );
    drop(first.await.unwrap());
    drop(second.await.unwrap());
    assert_eq!(*order.lock(), [1, 2]);
    assert!(servers.pick(None, 0, Instant::now()).is_ok());
}

#[tokio::test]
async fn one_who_gives_up_gives_its_turn_to_the_next() {
    let servers = with(1, full);
    let held = servers.pick(None, 0, Instant::now()).unwrap();
    let mut first = Box::pin(servers.wait(None, 0));
    let mut second = Box::pin(servers.wait(None, 0));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(first.as_mut().poll(&mut cx).is_pending());
    assert!(second.as_mut().poll(&mut cx).is_pending());
    drop(held);
    drop(first);
    assert!(second.await.is_ok());
    assert_eq!(servers.queue.waiting(), 0);
}

#[tokio::test]
async fn waiting_ends() {
    let servers = with(1, |upstream| {
        full(upstream);
        upstream.queue_timeout_ms = 30;
    });
    let _held = servers.pick(None, 0, Instant::now()).unwrap();
    let began = Instant::now();
    let waited = servers.wait(None, 0).await.map(|l| l.index());
    assert_eq!(waited, Err(Unavailable::TimedOut));
    assert!(began.elapsed() >= Duration::from_millis(30));
    assert_eq!(servers.queue.waiting(), 0);
    let none = with(1, |upstream| upstream.in_flight_max = 1);
    let _held = none.pick(None, 0, Instant::now()).unwrap();
    assert_eq!(
        none.wait(None, 0).await.map(|l| l.index()),
        Err(Unavailable::Full)
    );
}

#[tokio::test]
async fn a_server_that_is_well_again_serves_those_who_wait() {
    let servers = with(2, |upstream| {
        full(upstream);
        health(upstream);
    });
    for _ in 0..2 {
        servers.probed(1, false, Instant::now());
    }
    let _held = servers.pick(None, 0, Instant::now()).unwrap();
    let mut waiting = Box::pin(servers.wait(None, 0));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(waiting.as_mut().poll(&mut cx).is_pending());
    for _ in 0..3 {
        servers.probed(1, true, Instant::now());
    }
    assert_eq!(waiting.await.unwrap().index(), 1);
}

#[test]
fn attempts_are_counted() {
    let servers = with(1, |upstream| {
        upstream.retries = Retries {
            attempts_max: 2,
            budget_percent: 100,
        };
    });
    assert!(servers.may_retry(1, servers.epoch));
    assert!(servers.may_retry(2, servers.epoch));
    assert!(!servers.may_retry(3, servers.epoch));
    let never = with(1, |upstream| upstream.retries.attempts_max = 0);
    assert!(!never.may_retry(1, never.epoch));
}

#[test]
fn retries_have_a_budget_of_the_last_ten_seconds() {
    let servers = with(1, |_| {});
    let retries = |ms| {
        let now = after(&servers, ms);
        std::iter::from_fn(|| servers.may_retry(1, now).then_some(())).count()
    };
    assert_eq!(retries(0), 3, "a quiet group has a few");
    assert_eq!(retries(900), 0);
    assert_eq!(retries(1_000), 3);
    for ms in [2_000, 3_000] {
        one_by_one(&servers, 500, after(&servers, ms));
    }
    assert_eq!(
        retries(3_000),
        200 - 6,
        "a fifth of a thousand, less those before"
    );
    assert_eq!(retries(9_500), 3);
    assert_eq!(retries(30_000), 3, "all that was long ago");
    // A retry is no request that more retries follow from.
    let mut tried = 0;
    for _ in 0..1_000 {
        tried += usize::from(servers.pick(None, 1, after(&servers, 40_000)).is_ok());
    }
    assert_eq!((tried, retries(40_000)), (1_000, 3));
}

#[test]
fn many_threads_never_have_more_in_flight_than_they_may() {
    let servers = with(2, |upstream| upstream.in_flight_max = 3);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5_000 {
                    if let Ok(lease) = servers.pick(None, 0, servers.epoch) {
                        assert!(servers.health(lease.index(), servers.epoch).in_flight <= 3);
                    }
                }
            });
        }
    });
    assert_eq!(
        [0, 1].map(|at| servers.health(at, servers.epoch).in_flight),
        [0, 0]
    );
}
