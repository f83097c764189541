use super::*;

#[test]
fn failures_in_a_row_eject_and_a_success_begins_anew() {
    let servers = with(3, |_| {});
    fail(&servers, 0, 4, servers.epoch);
    servers.report(
        0,
        AttemptOutcome::Answered(StatusCode::NOT_FOUND),
        servers.epoch,
    );
    fail(&servers, 0, 4, servers.epoch);
    assert_eq!(ejected(&servers, servers.epoch), [0; 0]);
    let bad = [502, 503, 504].map(|code| StatusCode::from_u16(code).unwrap());
    servers.report(0, AttemptOutcome::Answered(bad[0]), servers.epoch);
    assert_eq!(ejected(&servers, servers.epoch), [0]);
    // A 500 is an answer of the application.
    for _ in 0..9 {
        servers.report(
            1,
            AttemptOutcome::Answered(StatusCode::INTERNAL_SERVER_ERROR),
            servers.epoch,
        );
    }
    assert_eq!(ejected(&servers, servers.epoch), [0]);
    assert_eq!(ejected(&servers, after(&servers, 9_999)), [0]);
    assert_eq!(ejected(&servers, after(&servers, 10_000)), [0; 0]);
}

#[test]
fn ejections_in_a_row_grow_to_ten_times_and_calm_forgives() {
    let servers = with(2, |upstream| upstream.ejection.eject_ms = 1_000);
    let mut ms = 0;
    for times in [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10] {
        fail(&servers, 0, 5, after(&servers, ms));
        assert_eq!(
            ejected(&servers, after(&servers, ms + times * 1_000 - 1)),
            [0]
        );
        ms += times * 1_000;
        assert_eq!(ejected(&servers, after(&servers, ms)), [0; 0], "{times}");
    }
    ms += 10_000;
    fail(&servers, 0, 5, after(&servers, ms));
    assert_eq!(ejected(&servers, after(&servers, ms + 1_000)), [0; 0]);
}

#[test]
fn only_a_share_of_the_servers_is_ejected_and_one_always_stays() {
    for (count, percent, most) in [(1, 100, 0), (2, 1, 1), (4, 50, 2), (4, 100, 3), (10, 25, 2)] {
        let servers = with(count, |upstream| {
            upstream.ejection.servers_percent_max = percent
        });
        for index in 0..count {
            fail(&servers, index, 10, servers.epoch);
        }
        assert_eq!(
            ejected(&servers, servers.epoch).len(),
            most,
            "{count} {percent}"
        );
    }
    // One that health checks took out is not the one that stays.
    let servers = with(2, health);
    for _ in 0..2 {
        servers.probed(0, false, servers.epoch);
    }
    fail(&servers, 1, 10, servers.epoch);
    assert_eq!(ejected(&servers, servers.epoch), [0; 0]);
}

#[test]
fn zero_failures_is_never() {
    let servers = with(2, |upstream| upstream.ejection.failures = 0);
    fail(&servers, 0, 1_000, servers.epoch);
    assert_eq!(ejected(&servers, servers.epoch), [0; 0]);
}

#[test]
fn health_checks_take_out_and_bring_back_after_so_many_in_a_row() {
    let servers = with(2, health);
    let probe = |healthy| servers.probed(0, healthy, servers.epoch);
    let is_out = || servers.health(0, servers.epoch).is_unhealthy;
    for (healthy, out) in [
        (false, false),
        (true, false),
        (false, false),
        (false, true),
        (true, true),
        (true, true),
        (false, true),
        (true, true),
        (true, true),
        (true, false),
    ] {
        probe(healthy);
        assert_eq!(is_out(), out);
    }
    for healthy in [false, false] {
        probe(healthy);
    }
    assert_eq!(one_by_one(&servers, 10, servers.epoch), [0, 10]);
}

#[test]
fn a_server_that_is_well_stays_out_as_long_as_it_is_ejected() {
    let servers = with(2, health);
    for _ in 0..2 {
        servers.probed(0, false, servers.epoch);
    }
    assert_eq!(ejected(&servers, servers.epoch), [0; 0]);
    for _ in 0..3 {
        servers.probed(0, true, servers.epoch);
    }
    fail(&servers, 0, 5, servers.epoch);
    for healthy in [false, false, true, true, true] {
        servers.probed(0, healthy, servers.epoch);
    }
    assert_eq!(one_by_one(&servers, 10, servers.epoch), [0, 10]);
    assert_eq!(one_by_one(&servers, 10, after(&servers, 10_000)), [5, 5]);
}

#[test]
fn when_every_server_is_out_all_are_used() {
    let servers = with(3, health);
    for index in 0..3 {
        for _ in 0..2 {
            servers.probed(index, false, servers.epoch);
        }
    }
    assert_eq!(one_by_one(&servers, 30, servers.epoch), [10; 3]);
    for _ in 0..3 {
        servers.probed(1, true, servers.epoch);
    }
    assert_eq!(one_by_one(&servers, 30, servers.epoch), [0, 30, 0]);
}

#[test]
fn a_group_that_is_carried_over_keeps_what_it_knows() {
    let old = with(3, |upstream| {
        health(upstream);
        upstream.slow_start_ms = 10_000;
    });
    let now = after(&old, 1_000);
    fail(&old, 0, 5, now);
    let _held = old.pick(None, 0b101, now).unwrap();
    assert!(Arc::ptr_eq(&old, &old.successor(old.upstream(), 1, now)));
    let mut next = upstream(4);
    health(&mut next);
    next.slow_start_ms = 10_000;
    next.addresses.remove(2);
    let new = old.successor(&next, 1, now);
    assert_eq!(new.authority(2).as_str(), "10.0.0.3:80");
    assert_eq!(ejected(&new, now), [0]);
    assert_eq!(
        new.health(1, now).in_flight,
        1,
        "requests of both builds count"
    );
    let taken = one_by_one(&new, 1_000, now);
    assert!(taken[2] > taken[1] / 20, "{taken:?}");
    assert_eq!(
        new.servers[2].weight(new.ms(now), 10_000),
        server::WEIGHT_FULL / 10
    );
    // What was learnt of a server over another protocol is forgotten.
    next.protocol = protoplex_wire::manifest::UpstreamProtocol::H2c;
    assert_eq!(ejected(&new.successor(&next, 1, now), now), [0; 0]);
}
