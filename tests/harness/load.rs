//! Load: keep-alive connections that ask again and again, and count every answer that is not what it should be.

use crate::{Connection, Response};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// Answers and failures of a load.
#[derive(Clone, Debug, Default)]
pub struct LoadReport {
    /// Answers that were accepted, by the name that the check gave them.
    pub seen: BTreeMap<String, u64>,
    /// Everything else: refused answers, and connections that failed.
    pub failures: Vec<String>,
    /// The longest time that anybody waited for an answer, or for its failure.
    pub slowest: Duration,
}

impl LoadReport {
    /// All accepted answers.
    pub fn total(&self) -> u64 {
        self.seen.values().sum()
    }
}

/// A load that runs until it is told to stop.
pub struct Load {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
    report: Arc<Mutex<LoadReport>>,
}

impl Load {
    /// Starts `connections` of them. `check` names an answer, or says what is wrong with it.
    pub fn start(
        address: &str,
        path: &str,
        connections: usize,
        check: impl Fn(&Response) -> Result<String, String> + Clone + Send + Sync + 'static,
    ) -> Self {
        let (stop, report) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(Mutex::new(LoadReport::default())),
        );
        let mut tasks = JoinSet::new();
        for _ in 0..connections {
            let (address, path, check) = (address.to_owned(), path.to_owned(), check.clone());
            let (stop, report) = (Arc::clone(&stop), Arc::clone(&report));
            tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let ended = ask(&address, &path, &stop, &report, &check).await;
                    if let Err(error) = ended {
                        report
                            .lock()
                            .expect("no panic holds it")
                            .failures
                            .push(format!("{error:#}"));
                    }
                }
            });
        }
        Self {
            stop,
            tasks,
            report,
        }
    }

    /// Accepted answers so far.
    pub fn total(&self) -> u64 {
        self.report.lock().expect("no panic holds it").total()
    }

    /// Ends it after the answers that are under way.
    pub async fn finish(mut self) -> LoadReport {
        self.stop.store(true, Ordering::Relaxed);
        while self.tasks.join_next().await.is_some() {}
        self.report.lock().expect("no panic holds it").clone()
    }
}

async fn ask(
    address: &str,
    path: &str,
    stop: &AtomicBool,
    report: &Mutex<LoadReport>,
    check: &impl Fn(&Response) -> Result<String, String>,
) -> anyhow::Result<()> {
    let mut connection = Connection::open(address).await?;
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let answer = connection.get(path).await;
        let took = asked.elapsed();
        let mut report = report.lock().expect("no panic holds it");
        report.slowest = report.slowest.max(took);
        let response = answer?;
        let verdict = check(&response);
        match verdict {
            Ok(name) => *report.seen.entry(name).or_default() += 1,
            Err(fault) => report.failures.push(fault),
        }
        drop(report);
        if response
            .header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"))
        {
            return Ok(());
        }
    }
    Ok(())
}
