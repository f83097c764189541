//! Several children with links that break, directories that move channels and come at different times, children that
//! drain or die, and clients that come back elsewhere, all at random, against a model that keeps everything. What
//! `recovered` and the absence of a reset promise is kept, every ticket has one answer, and when all is quiet every
//! client has the same stream and the same members before it.

mod client;
mod truth;
mod world;

use world::{Weather, World};

const STEPS: usize = 1_500;
const RUNS: u64 = 600;

/// A small generator of our own, so that a failure is repeated by its number.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn of(&mut self, n: usize) -> usize {
        self.below(n as u64) as usize
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Counts of what a run has seen of what it should see.
#[derive(Default, Debug)]
struct Seen {
    recovered: usize,
    lost: usize,
    resets: usize,
    unavailable: usize,
    published: usize,
    repeated: usize,
    drained: usize,
}

fn run(number: u64, weather: Weather) -> Seen {
    let mut world = World::new(number, weather);
    for _ in 0..STEPS {
        world.step();
    }
    world.settle();
    world.check_quiet();
    world.end();
    world.seen
}

fn runs(weather: Weather) -> Seen {
    let from = std::env::var("RUN").ok().and_then(|run| run.parse().ok());
    let runs = std::env::var("RUNS").ok().and_then(|run| run.parse().ok());
    let numbers = from.map_or(0..runs.unwrap_or(RUNS), |run| run..run + 1);
    let mut all = Seen::default();
    for number in numbers {
        let ran = std::panic::catch_unwind(|| run(number, weather));
        let seen = ran.unwrap_or_else(|_| panic!("random run {number} ({weather:?})"));
        all.recovered += seen.recovered;
        all.lost += seen.lost;
        all.resets += seen.resets;
        all.unavailable += seen.unavailable;
        all.published += seen.published;
        all.repeated += seen.repeated;
        all.drained += seen.drained;
    }
    all
}

#[test]
fn moves_and_broken_links_lose_and_double_nothing() {
    let seen = runs(Weather::Calm);
    assert!(seen.published > 10_000 && seen.repeated > 1_000, "{seen:?}");
    assert!(seen.recovered > 5_000 && seen.drained > 100, "{seen:?}");
}

#[test]
fn answers_stay_true_while_children_die_or_are_partitioned() {
    let seen = runs(Weather::Wild);
    assert!(
        seen.published > 10_000 && seen.recovered > 1_000,
        "{seen:?}"
    );
    assert!(seen.lost > 1_000 && seen.resets > 500, "{seen:?}");
    assert!(seen.unavailable > 1_000, "{seen:?}");
}
