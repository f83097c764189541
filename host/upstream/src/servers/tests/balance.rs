use super::*;

#[test]
fn an_idle_group_spreads_evenly_also_with_one_server_out() {
    let servers = with(4, |_| {});
    assert_eq!(one_by_one(&servers, 400, servers.epoch), [100; 4]);
    fail(&servers, 1, 5, servers.epoch);
    let taken = one_by_one(&servers, 300, servers.epoch);
    assert_eq!(taken, [100, 0, 100, 100], "no neighbour gets its share too");
}

#[test]
fn the_least_loaded_server_is_taken() {
    let servers = with(3, |_| {});
    let mut held: Vec<Lease> = Vec::new();
    for _ in 0..9 {
        held.push(servers.pick(None, 0, servers.epoch).unwrap());
    }
    let count = |held: &[Lease], at| held.iter().filter(|l| l.index() == at).count();
    assert_eq!([0, 1, 2].map(|at| count(&held, at)), [3; 3]);
    // One that answers faster gets more.
    held.retain(|lease| lease.index() != 1);
    let next: Vec<_> = (0..3)
        .map(|_| servers.pick(None, 0, servers.epoch).unwrap())
        .collect();
    assert!(next.iter().all(|lease| lease.index() == 1), "{next:?}");
}

#[test]
fn a_retry_goes_to_another_server_where_there_is_one() {
    let servers = with(3, |_| {});
    for _ in 0..10 {
        let lease = servers.pick(None, 0b101, servers.epoch).unwrap();
        assert_eq!(lease.index(), 1);
    }
    assert!(servers.pick(None, 0b111, servers.epoch).is_ok());
    // Not to one that is out, while one is in.
    fail(&servers, 1, 5, servers.epoch);
    let lease = servers.pick(None, 0b101, servers.epoch).unwrap();
    assert_ne!(lease.index(), 1);
}

#[test]
fn only_keys_of_a_server_that_is_out_move() {
    let keyed = |upstream: &mut Upstream| upstream.balance = Balance::Key;
    let servers = with(5, keyed);
    let at = |servers: &Arc<Servers>, key: u64| {
        let key = key_hash(&key.to_le_bytes());
        servers.pick(Some(key), 0, servers.epoch).unwrap().index()
    };
    let before: Vec<_> = (0..2_000).map(|key| at(&servers, key)).collect();
    for server in 0..5 {
        let share = before.iter().filter(|at| **at == server).count();
        assert!((300..500).contains(&share), "{server} has {share} of 2000");
    }
    fail(&servers, 2, 5, servers.epoch);
    for (key, before) in before.iter().enumerate() {
        let now = at(&servers, key as u64);
        assert!(if *before == 2 {
            now != 2
        } else {
            now == *before
        });
    }
    // The same in every child and on every node, whatever the order of the addresses.
    let mut other = upstream(5);
    keyed(&mut other);
    other.addresses.reverse();
    let other = Servers::new(&other, 4);
    for (key, before) in before.iter().enumerate() {
        assert_eq!(4 - at(&other, key as u64), *before);
    }
    assert_eq!(key_hash(b"protoplex"), key_hash(b"protoplex"));
    assert_eq!(key_hash(b""), 0xf52a_15e9_a9b5_e89b, "never another");
}

#[test]
fn without_a_key_the_least_loaded_is_taken() {
    let servers = with(2, |upstream| upstream.balance = Balance::Key);
    assert_eq!(one_by_one(&servers, 10, servers.epoch), [5, 5]);
    let servers = with(2, |_| {});
    let first = servers.pick(Some(7), 0, servers.epoch).unwrap();
    let second = servers.pick(Some(7), 0, servers.epoch).unwrap();
    assert_ne!(first.index(), second.index());
}

#[test]
fn a_server_that_comes_back_starts_slowly() {
    let servers = with(2, |upstream| {
        upstream.slow_start_ms = 10_000;
        upstream.ejection.eject_ms = 1_000;
    });
    fail(&servers, 0, 5, servers.epoch);
    let share = |ms| one_by_one(&servers, 2_000, after(&servers, ms))[0];
    assert_eq!(share(999), 0);
    // It came back at 1,000. A tenth to one is a share of 182, a half to one of 667.
    let (early, later) = (share(1_100), share(6_000));
    assert!((120..250).contains(&early), "{early}");
    assert!((580..750).contains(&later), "{later}");
    assert_eq!(share(11_001), 1_000);
}

#[test]
fn slow_start_is_not_flooded_while_others_are_busy() {
    let servers = with(2, |upstream| {
        upstream.slow_start_ms = 10_000;
        upstream.ejection.eject_ms = 1_000;
    });
    let busy: Vec<_> = (0..80)
        .map(|_| servers.pick(None, 0b01, servers.epoch).unwrap())
        .collect();
    assert!(busy.iter().all(|lease| lease.index() == 1));
    fail(&servers, 0, 5, servers.epoch);
    let now = after(&servers, 3_000);
    let more: Vec<_> = (0..100)
        .map(|_| servers.pick(None, 0, now).unwrap())
        .collect();
    let slow = more.iter().filter(|lease| lease.index() == 0).count();
    assert!(
        (5..=40).contains(&slow),
        "{slow} of 180, at a fifth of a share"
    );
}

#[test]
fn keys_come_back_one_after_another_and_each_once() {
    let servers = with(2, |upstream| {
        upstream.balance = Balance::Key;
        upstream.slow_start_ms = 10_000;
        upstream.ejection.eject_ms = 1_000;
    });
    fail(&servers, 0, 5, servers.epoch);
    let mut back: Vec<u64> = Vec::new();
    for ms in [999, 1_100, 4_000, 7_000, 11_001] {
        let now = after(&servers, ms);
        let at_0 = |key: &u64| {
            servers
                .pick(Some(key_hash(&key.to_le_bytes())), 0, now)
                .unwrap()
                .index()
                == 0
        };
        let now_back: Vec<u64> = (0..500).filter(at_0).collect();
        assert!(
            back.iter().all(|key| now_back.contains(key)),
            "one went back"
        );
        assert!(now_back.len() > back.len() || ms == 999);
        back = now_back;
    }
    assert!((200..300).contains(&back.len()));
}
