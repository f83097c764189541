//! Health checks: a server that fails them is left out, and comes back.

use crate::support::{Answer, Server, Spoken, ask, context, serve, soon, text, upstream};
use protoplex_upstream::Group;
use protoplex_wire::manifest::{HealthCheck, Upstream, UpstreamProtocol};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

fn check() -> HealthCheck {
    HealthCheck {
        path: "/healthz".into(),
        host: Some("checked.internal".into()),
        interval_ms: 20,
        // Long enough for a machine that is busy with other tests.
        timeout_ms: 500,
        unhealthy_after: 2,
        healthy_after: 2,
    }
}

/// Answers health checks with a status that can be changed; 0 is no answer at all.
async fn checked(spoken: Spoken, name: &'static str) -> (Server, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(200));
    let server = serve(spoken, {
        let status = Arc::clone(&status);
        move |request| {
            let status = status.load(Relaxed);
            async move { answer(&request, status, name).await }
        }
    })
    .await;
    (server, status)
}

async fn answer(
    request: &http::Request<hyper::body::Incoming>,
    status: u16,
    name: &'static str,
) -> Answer {
    if request.uri().path() != "/healthz" {
        return text(name);
    }
    let host = request
        .headers()
        .get("host")
        .and_then(|host| host.to_str().ok());
    let host = request.uri().host().or(host);
    assert_eq!(host, Some("checked.internal"));
    if status == 0 {
        std::future::pending::<()>().await;
    }
    let mut answer = text("");
    *answer.status_mut() = http::StatusCode::from_u16(status).unwrap();
    answer
}

/// Until the health checks have found what must be found.
async fn until(group: &Group, index: usize, unhealthy: bool) {
    soon(async {
        while group.servers().health(index, Instant::now()).is_unhealthy != unhealthy {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_failing_checks_gets_no_request_until_it_recovers() {
    for (protocol, spoken) in [
        (
            UpstreamProtocol::Http1,
            (|| Spoken::Http1) as fn() -> Spoken,
        ),
        (UpstreamProtocol::H2c, || Spoken::H2c(100)),
    ] {
        let (a, _) = checked(spoken(), "a").await;
        let (b, status) = checked(spoken(), "b").await;
        let upstream = Upstream {
            health: Some(check()),
            ..upstream(protocol, &[&a, &b])
        };
        let context = context();
        let group = Group::new(&upstream, &context).unwrap();
        for bad in [500, 404, 0] {
            status.store(bad, Relaxed);
            until(&group, 1, true).await;
            for _ in 0..10 {
                assert_eq!(ask(&group, "/").await, "a");
            }
            status.store(302, Relaxed);
            until(&group, 1, false).await;
            let mut answers = [ask(&group, "/").await, ask(&group, "/").await];
            answers.sort();
            assert_eq!(answers, ["a", "b"]);
        }
    }
}

#[tokio::test]
async fn an_absent_server_fails_checks_which_end_with_the_group() {
    let (a, _) = checked(Spoken::Http1, "a").await;
    let (b, _) = checked(Spoken::Http1, "b").await;
    let upstream = Upstream {
        health: Some(check()),
        ..upstream(UpstreamProtocol::Http1, &[&a, &b])
    };
    drop(b);
    let context = context();
    let group = Group::new(&upstream, &context).unwrap();
    until(&group, 1, true).await;
    assert!(!group.servers().health(0, Instant::now()).is_unhealthy);
    // The same group carried over checks once, and another one ends with the process.
    let same = group.successor(&upstream, &context).unwrap();
    assert!(Arc::ptr_eq(&same, &group));
    drop((same, group));
    let other = Group::new(&upstream, &context).unwrap();
    context.tasks.close();
    context.stop.cancel();
    soon(context.tasks.wait()).await;
    drop(other);
}
