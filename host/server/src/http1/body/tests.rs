//! The slot between a connection and a service.

use super::*;
use futures::task::noop_waker;
use http_body_util::BodyExt;

fn poll(body: &mut BodyConsumer) -> Poll<Option<Result<Bytes, BodyError>>> {
    let waker = noop_waker();
    let polled = Pin::new(body).poll_frame(&mut Context::from_waker(&waker));
    polled.map(|frame| frame.map(|frame| frame.map(|frame| frame.into_data().unwrap())))
}

fn want(producer: &BodyProducer) -> BodyDemand {
    let waker = noop_waker();
    producer.want(&mut Context::from_waker(&waker))
}

#[test]
fn nothing_is_read_that_nobody_waits_for() {
    let producer = BodyProducer::new(true);
    let mut body = producer.consumer(None).unwrap();
    assert!(want(&producer) == BodyDemand::Nothing);
    assert!(producer.may_want(true) && !producer.may_want(false));
    assert!(poll(&mut body).is_pending());
    assert!(producer.may_want(false));
    assert!(want(&producer) == BodyDemand::More);
    producer.give(Bytes::from_static(b"a"));
    assert!(want(&producer) == BodyDemand::Nothing);
    assert!(matches!(poll(&mut body), Poll::Ready(Some(Ok(piece))) if piece == "a"));
    assert!(want(&producer) == BodyDemand::Nothing);
    drop(body);
    assert!(want(&producer) == BodyDemand::Gone && !producer.may_want(true));
}

#[test]
fn a_body_ends_once_and_says_so() {
    let producer = BodyProducer::new(true);
    let mut body = producer.consumer(Some(1)).unwrap();
    assert_eq!(body.size_hint().exact(), Some(1));
    producer.give_last(Bytes::from_static(b"a"));
    assert!(!body.is_end_stream());
    assert!(matches!(poll(&mut body), Poll::Ready(Some(Ok(_)))));
    assert!(body.is_end_stream());
    assert!(matches!(poll(&mut body), Poll::Ready(None)));
}

#[test]
fn an_error_comes_after_what_was_whole_and_stays() {
    let producer = BodyProducer::new(true);
    let mut body = producer.consumer(None).unwrap();
    producer.give(Bytes::from_static(b"a"));
    producer.fail(BodyError::TooSlow);
    assert!(matches!(poll(&mut body), Poll::Ready(Some(Ok(_)))));
    assert!(!body.is_end_stream());
    for _ in 0..2 {
        assert!(matches!(
            poll(&mut body),
            Poll::Ready(Some(Err(BodyError::TooSlow)))
        ));
    }
}

#[tokio::test]
async fn both_ends_wake_each_other() {
    let producer = BodyProducer::new(true);
    let body = producer.consumer(None).unwrap();
    let reading = tokio::spawn(body.collect());
    for piece in ["a", "b", "c"] {
        std::future::poll_fn(|cx| match producer.want(cx) {
            BodyDemand::More => Poll::Ready(()),
            _ => Poll::Pending,
        })
        .await;
        producer.give(Bytes::from_static(piece.as_bytes()));
    }
    producer.end(None);
    assert_eq!(reading.await.unwrap().unwrap().to_bytes(), "abc");
}
