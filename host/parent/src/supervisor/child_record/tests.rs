use super::*;

fn died(child: &mut ChildRecord, now: Instant) {
    child.died("a signal".into(), now);
}

#[test]
fn a_quiet_child_is_killed_only_if_it_had_a_processor() {
    let second = Duration::from_secs(1);
    let mut child = ChildRecord::new(Instant::now());
    child.serves_since(Instant::now());
    assert_eq!(child.judge(second * 2, second * 7), Silence::Quiet);
    assert!(!child.accepts());
    assert_eq!(child.judge(second * 5, second * 7), Silence::Short);
    // Of nine seconds of silence it was to have a processor in five.
    assert_eq!(child.judge(second * 9, second * 11), Silence::Short);
    assert_eq!(child.judge(second * 10, second * 11), Silence::Stuck);
    assert!(child.heard(second * 10));
    assert!(child.accepts());
    assert!(!child.heard(second * 11));
}

#[test]
fn with_no_child_left_none_waits_out_its_pause() {
    let now = Instant::now();
    let mut all = [ChildRecord::new(now), ChildRecord::new(now)];
    let soon = |pause| Phase::Dead {
        start_at: now + pause,
    };
    for child in &mut all {
        for _ in 0..9 {
            child.serves_since(now);
            died(child, now);
        }
    }
    shorten_pauses(&mut all, now);
    assert!(all.iter().all(|child| child.phase == soon(ALONE_PAUSE)));
    // Those who die of their start rest longer, for the machine's sake, and still not long.
    for child in &mut all {
        assert!(!child.is_futile());
        (0..9).for_each(|_| died(child, now));
        assert!(child.is_futile());
    }
    shorten_pauses(&mut all, now);
    assert!(all.iter().all(|child| child.phase == soon(ALONE_PAUSE_MAX)));
}

#[test]
fn an_answer_that_was_given_up_is_not_taken_for_the_next_one() {
    let mut child = ChildRecord::new(Instant::now());
    child.serves_since(Instant::now());
    assert!(child.may_ask_metrics(2) && child.may_ask_metrics(2));
    assert!(!child.may_ask_metrics(2), "two are open");
    assert!(!child.answered_last_scrape());
    assert!(child.answered_last_scrape());
    // Another process has not heard the questions.
    assert!(child.may_ask_metrics(2));
    died(&mut child, Instant::now());
    assert!(!child.may_ask_metrics(2), "it does not serve");
    child.serves_since(Instant::now());
    assert!(child.may_ask_metrics(2));
    assert!(child.answered_last_scrape());
}

#[test]
fn a_child_that_keeps_dying_restarts_later_and_later() {
    let mut child = ChildRecord::new(Instant::now());
    let mut last = Duration::ZERO;
    for _ in 0..20 {
        let now = Instant::now();
        died(&mut child, now);
        let Phase::Dead { start_at } = child.phase else {
            panic!("it is dead")
        };
        assert!(start_at - now >= last && start_at - now <= Duration::from_secs(5));
        last = start_at - now;
    }
}

#[test]
fn counters_of_processes_that_ended_are_kept() {
    let mut child = ChildRecord::new(Instant::now());
    for requests in [3, 4] {
        child.set_beat(Beat {
            requests,
            connections: 9,
            ..Beat::default()
        });
        died(&mut child, Instant::now());
    }
    let [now, past] = child.counters();
    assert_eq!((now.requests, past.requests), (0, 7));
    assert_eq!(child.connections(), 0, "they closed with the process");
}
