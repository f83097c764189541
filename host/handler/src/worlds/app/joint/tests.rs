use super::*;
use crate::places::Places;
use futures::FutureExt;
use std::task::Waker;

fn incoming() -> Box<Incoming> {
    let (answer, _) = oneshot::channel();
    Box::new(Incoming {
        request: http::Request::new(WasiBody::default()),
        track: Arc::default(),
        answer,
    })
}

fn nobody() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// A joint of which one request waits in a task of its own.
fn waiting(concurrency: u32, requests_max: u64) -> (Joint, Arc<RequestTrack>) {
    let track = Arc::default();
    let joint = Joint::new(concurrency, requests_max, 0, &track);
    joint.go_apart();
    joint.next(&nobody(), false, true);
    if joint.note_wait() {
        joint.next(&nobody(), false, true);
    }
    (joint, track)
}

#[test]
fn others_join_only_a_guest_that_waits_in_a_task_of_its_own() {
    let here = Joint::new(4, 100, 0, &Arc::default());
    here.next(&nobody(), false, true);
    assert!(!here.note_wait());
    assert!(here.join(incoming()).is_err(), "a connection drives it");

    let busy = Joint::new(4, 100, 0, &Arc::default());
    busy.go_apart();
    busy.next(&nobody(), false, true);
    assert!(busy.join(incoming()).is_err(), "it was not seen waiting");

    let (joint, _) = waiting(4, 100);
    assert!(joint.join(incoming()).is_ok());
    assert!(joint.join(incoming()).is_err(), "busy with the one before");
    assert!(matches!(joint.next(&nobody(), false, true), Step::Take(_)));
}

#[test]
fn nobody_joins_past_the_requests_at_once_or_in_all() {
    let (alone, _) = waiting(1, 100);
    assert!(alone.join(incoming()).is_err());
    let (last, _) = waiting(4, 1);
    assert!(last.join(incoming()).is_err());
    let (expired, late) = waiting(4, 100);
    expired.leave(&late, None);
    assert!(expired.join(incoming()).is_err());
}

#[test]
fn a_run_ends_only_when_every_body_has() {
    let (joint, track) = waiting(4, 100);
    joint.body_begins();
    assert!(matches!(joint.next(&nobody(), true, true), Step::Wait));
    joint.body_ends(&track);
    assert!(matches!(joint.next(&nobody(), true, true), Step::End));
    assert!(joint.join(incoming()).is_err());
}

#[test]
fn a_trap_fails_exactly_the_requests_with_unfinished_bodies() {
    let (joint, first) = waiting(4, 100);
    let second = incoming();
    let other = Arc::clone(&second.track);
    assert!(joint.join(second).is_ok());
    joint.body_begins();
    joint.body_ends(&first);
    joint.died(|_| HandlerError::Trap("unreachable".into()));
    joint.died(|_| HandlerError::Trap("stopped".into()));
    assert!(first.cause().is_none());
    assert!(matches!(other.cause(), Some(HandlerError::Trap(text)) if text == "unreachable"));
}

#[test]
fn cpu_time_counts_before_and_after_but_not_during_streams() {
    let (joint, track) = waiting(1, 1);
    let (none, long) = (Duration::ZERO, Duration::from_secs(600));
    assert!(joint.is_overdue(none, long));
    joint.body_begins();
    assert!(!joint.is_overdue(none, none));
    joint.body_ends(&track);
    assert!(joint.is_overdue(long, none) && !joint.is_overdue(none, long));
}

fn is_deserted(joint: &Joint) -> bool {
    joint.deserted().now_or_never().is_some()
}

fn place(places: &Arc<Places>) -> Option<Place> {
    places.try_take(std::net::Ipv4Addr::LOCALHOST.into())
}

#[test]
fn an_instance_whose_clients_have_all_left_is_deserted() {
    let allowance = Places::new(8, 0);
    let (joint, first) = waiting(4, 100);
    let second = incoming();
    let other = Arc::clone(&second.track);
    assert!(joint.join(second).is_ok());
    joint.leave(&first, place(&allowance));
    assert!(!is_deserted(&joint), "somebody waits for the other");
    assert_eq!(allowance.taken(), 1);
    joint.leave(&other, place(&allowance));
    assert!(is_deserted(&joint));
    assert!(joint.join(incoming()).is_err());
    joint.died(|_| HandlerError::Deadline(1));
    assert_eq!(allowance.taken(), 0);
}

#[test]
fn a_request_whose_client_left_before_it_began_is_not_begun() {
    let (joint, _here) = waiting(4, 100);
    let gone = incoming();
    let track = Arc::clone(&gone.track);
    assert!(joint.join(gone).is_ok());
    joint.leave(&track, None);
    assert!(matches!(joint.next(&nobody(), false, true), Step::Wait));
    assert!(joint.awaits_head(), "the first has not been answered");
}

#[test]
fn work_after_a_response_outlives_the_client_within_limits() {
    let allowance = Places::new(8, 0);
    for has_place in [true, false] {
        let (joint, first) = waiting(4, 100);
        let second = incoming();
        let other = Arc::clone(&second.track);
        assert!(joint.join(second).is_ok());
        joint.body_begins();
        joint.body_ends(&first);
        joint.leave(&other, has_place.then(|| place(&allowance)).flatten());
        assert_eq!(is_deserted(&joint), !has_place);
    }
}
