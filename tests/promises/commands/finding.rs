//! Which Seed a command talks to: a flag, then `PROTOPLEX_SEED`, then the newest running `up`.

use super::{SWAP, plain};
use protoplex_tests::{Fleet, Pushed};

fn seed(fleet: &Fleet) -> &str {
    fleet.info["seed"].as_str().unwrap()
}

#[track_caller]
fn assert_of(said: &Pushed, fleet: &Fleet) {
    assert_eq!(said.code, 0, "{said:?}");
    let line = format!("Seed {} (", seed(fleet));
    assert!(said.out.contains(&line), "{line:?} is not in {said:?}");
}

#[test]
fn a_seed_is_found_by_flag_then_environment_then_the_newest_up() {
    let older = Fleet::start(SWAP).unwrap();
    let mut newer = Fleet::start_beside(&older, SWAP).unwrap();
    let from_env = [("PROTOPLEX_SEED", seed(&older))];

    assert_of(&plain(&older, &["status"], &[]), &newer);
    assert_of(&plain(&older, &["status"], &from_env), &older);
    let by_flag = ["status", "--seed", seed(&newer)];
    assert_of(&plain(&older, &by_flag, &from_env), &newer);
    assert_of(&older.run(&["status"]).unwrap(), &older);
    let data = newer.data().to_str().unwrap().to_owned();
    let by_data = ["status", "--data", &data];
    assert_of(&plain(&older, &by_data, &from_env), &newer);

    // A push is a command like the others.
    let pushed = plain(&older, &["push", SWAP, "--set", "greeting=green"], &[]);
    assert_eq!(pushed.code, 0, "{pushed:?}");
    let count = |fleet: &Fleet| {
        let said = fleet.run(&["releases", "--json"]).unwrap();
        let releases: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        releases.as_array().unwrap().len()
    };
    assert_eq!((count(&older), count(&newer)), (1, 2));

    assert_eq!(newer.stop().unwrap(), 0);
    assert_of(&plain(&older, &["status"], &[]), &older);
    let gone = plain(&older, &by_data, &[]);
    assert_eq!(gone.code, 1, "{gone:?}");
    let words = format!("no `up` runs on {data}; start one with `protoplex up --data {data}`");
    assert!(gone.err.contains(&words), "{gone:?}");
}

#[test]
fn without_a_seed_the_message_says_what_to_do() {
    let mut fleet = Fleet::start(SWAP).unwrap();
    let seed = seed(&fleet).to_owned();
    assert_eq!(fleet.stop().unwrap(), 0);
    let none = plain(&fleet, &["status"], &[]);
    assert_eq!(none.code, 1, "{none:?}");
    let words = "no Seed is running; start one with `protoplex up`, or name one with --seed URL";
    assert!(none.err.contains(words), "{none:?}");

    let stranger = plain(&fleet, &["status", "--seed", &seed], &[]);
    assert_eq!(stranger.code, 1, "{stranger:?}");
    let words = "add --ca FILE --cert FILE --key FILE";
    assert!(stranger.err.contains(words), "{stranger:?}");

    let file = |key: &str| fleet.info[key].as_str().unwrap().to_owned();
    let (ca, cert, key) = (file("ca"), file("cert"), file("key"));
    let named = [
        "status", "--seed", &seed, "--ca", &ca, "--cert", &cert, "--key", &key,
    ];
    let silent = plain(&fleet, &named, &[]);
    assert_eq!(silent.code, 1, "{silent:?}");
    assert!(silent.err.contains("cannot be reached"), "{silent:?}");
}
