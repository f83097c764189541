//! The node's metrics: what its children count, put together, and what only the parent knows.

use crate::supervisor::Supervisor;
use protoplex_telemetry::log_output;
use protoplex_wire::ReleaseId;
use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Seek},
    os::fd::OwnedFd,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// Time that an answer to a question for metrics waits for the children.
const TIMEOUT: Duration = Duration::from_secs(1);
/// A question that children are answering.
struct Scrape {
    answer: oneshot::Sender<String>,
    /// Children that were asked.
    expected: usize,
    texts: Vec<String>,
    since: Instant,
}

impl Scrape {
    /// Whether the question is answered without the children that have said nothing.
    fn is_late(&self) -> bool {
        self.since.elapsed() > TIMEOUT
    }
}

/// Owner of the question for metrics that is open. A new one takes the place of one that was not answered.
#[derive(Default)]
pub(crate) struct Scraper {
    scrape: Option<Scrape>,
}

impl Scraper {
    /// Asks the children that serve.
    pub(crate) fn ask(
        &mut self,
        answer: oneshot::Sender<String>,
        supervisor: &mut Supervisor,
        release: ReleaseId,
    ) {
        let expected = supervisor.ask_metrics();
        self.scrape = Some(Scrape {
            answer,
            expected,
            texts: Vec::new(),
            since: Instant::now(),
        });
        if expected == 0 {
            self.finish(supervisor, release);
        }
    }

    /// Takes a child's answer, the first of `files`.
    pub(crate) fn child_answered(
        &mut self,
        child: usize,
        files: Vec<OwnedFd>,
        supervisor: &mut Supervisor,
        release: ReleaseId,
    ) {
        if !supervisor.answered_last_scrape(child) {
            return;
        }
        let Some(scrape) = &mut self.scrape else {
            return;
        };
        let mut text = String::new();
        if let Some(file) = files.into_iter().next() {
            let mut file = File::from(file);
            let _ = file.rewind();
            let _ = file.read_to_string(&mut text);
        }
        scrape.texts.push(text);
        if scrape.texts.len() >= scrape.expected {
            self.finish(supervisor, release);
        }
    }

    /// Whether somebody waits for an answer.
    pub(crate) fn is_busy(&self) -> bool {
        self.scrape.is_some()
    }

    /// Answers with what there is, when it was waited for long enough.
    pub(crate) fn tick(&mut self, supervisor: &Supervisor, release: ReleaseId) {
        if self.scrape.as_ref().is_some_and(Scrape::is_late) {
            self.finish(supervisor, release);
        }
    }

    fn finish(&mut self, supervisor: &Supervisor, release: ReleaseId) {
        let Some(scrape) = self.scrape.take() else {
            return;
        };
        let mut texts = scrape.texts;
        texts.push(parent_metrics(supervisor, release));
        // Who asked may be gone.
        let _ = scrape.answer.send(merge(&texts));
    }
}

/// What only the parent knows.
fn parent_metrics(supervisor: &Supervisor, release: ReleaseId) -> String {
    let (serving, restarts) = (supervisor.serving(), supervisor.restarts());
    format!(
        "# HELP protoplex_children_serving Children that answer requests.\n# TYPE protoplex_children_serving gauge\n\
         protoplex_children_serving {serving}\n\
         # HELP protoplex_child_restarts_total Children that were started again.\n\
         # TYPE protoplex_child_restarts_total counter\nprotoplex_child_restarts_total {restarts}\n\
         # HELP protoplex_release_sequence The highest release taken, within its epoch.\n\
         # TYPE protoplex_release_sequence gauge\nprotoplex_release_sequence{{epoch=\"{}\"}} {}\n\
         # HELP protoplex_log_lines_lost Lines of the log that could not be written.\n\
         # TYPE protoplex_log_lines_lost gauge\nprotoplex_log_lines_lost{{child=\"parent\"}} {}\n",
        release.epoch,
        release.sequence,
        log_output::lost()
    )
}

/// Puts the samples of each family of several texts together, with one HELP and TYPE.
fn merge(texts: &[String]) -> String {
    let mut order: Vec<&str> = Vec::new();
    let mut families: BTreeMap<&str, (Vec<&str>, Vec<&str>)> = BTreeMap::new();
    let mut name = "";
    for line in texts.iter().flat_map(|text| text.lines()) {
        // Samples belong to the family that was begun last: those of a histogram have other names than it has.
        if let Some(rest) = line.strip_prefix("# ") {
            name = rest.split(' ').nth(1).unwrap_or_default();
        }
        let family = families.entry(name).or_insert_with(|| {
            order.push(name);
            Default::default()
        });
        let lines = if line.starts_with('#') {
            &mut family.0
        } else {
            &mut family.1
        };
        if !line.starts_with('#') || !lines.contains(&line) {
            lines.push(line);
        }
    }
    let lines = order
        .iter()
        .flat_map(|name| families[name].0.iter().chain(&families[name].1));
    lines.flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::supervisor;

    #[test]
    fn a_question_is_answered_once_every_serving_child_has_answered() {
        let mut supervisor = supervisor(2);
        let _queues = [supervisor.fake_child(0), supervisor.fake_child(1)];
        let (mut scraper, release) = (Scraper::default(), ReleaseId::default());
        let (answer, mut text) = oneshot::channel();
        scraper.ask(answer, &mut supervisor, release);
        let alone = text.try_recv().expect("nobody is waited for");
        assert!(alone.contains("protoplex_children_serving 0"), "{alone}");
        assert!(supervisor.activated(0) && supervisor.activated(1));
        let (answer, mut text) = oneshot::channel();
        scraper.ask(answer, &mut supervisor, release);
        for child in [0, 1] {
            assert!(text.try_recv().is_err(), "child {child} is waited for");
            scraper.child_answered(child, Vec::new(), &mut supervisor, release);
        }
        let both = text.try_recv().unwrap();
        assert!(both.contains("protoplex_children_serving 2"), "{both}");
    }

    #[test]
    fn families_of_several_children_are_merged_under_one_help() {
        let child = |n: u32| {
            format!(
                "# HELP a A.\n# TYPE a counter\na{{child=\"{n}\"}} {n}\n# HELP b B.\n# TYPE b gauge\nb 1\n"
            )
        };
        let merged = merge(&[child(0), child(1)]);
        assert_eq!(merged.matches("# HELP a").count(), 1);
        assert!(
            merged.contains("a{child=\"0\"} 0\na{child=\"1\"} 1\n"),
            "{merged}"
        );
    }

    #[test]
    fn samples_of_a_histogram_stay_under_its_head() {
        let head = "# HELP h H.\n# TYPE h histogram\n";
        let next = "# HELP n N.\n# TYPE n gauge\nn 1\n";
        let samples = "h_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n";
        // The first child has none of them yet.
        let texts = [format!("{head}{next}"), format!("{head}{samples}{next}")];
        let next = "# HELP n N.\n# TYPE n gauge\nn 1\nn 1\n";
        assert_eq!(merge(&texts), format!("{head}{samples}{next}"));
    }
}
