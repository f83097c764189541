//! The node's metrics: what its children count, put together, and what only the parent knows.

use super::actor::Actor;
use protoplex_control::messages::ToChild;
use protoplex_telemetry::log_output;
use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Seek},
    os::fd::OwnedFd,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// Time that an answer waits for the children.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Questions that a child may have open: one that answers none is not asked more.
const OPEN_MAX: u32 = 4;

/// A question that children are answering.
pub(super) struct Scrape {
    answer: oneshot::Sender<String>,
    expected: usize,
    texts: Vec<String>,
    since: Instant,
}

impl Scrape {
    /// Whether it is answered without those that have said nothing.
    fn is_late(&self) -> bool {
        self.since.elapsed() > TIMEOUT
    }
}

impl Actor {
    /// Asks the children that serve.
    pub(super) async fn scrape(&mut self, answer: oneshot::Sender<String>) {
        let serving: Vec<_> = (0..self.seats.len())
            .filter(|&index| {
                self.seats[index].serves() && self.seats[index].scrapes_open < OPEN_MAX
            })
            .collect();
        self.scrape = Some(Scrape {
            answer,
            expected: serving.len(),
            texts: Vec::new(),
            since: Instant::now(),
        });
        for index in &serving {
            self.seats[*index].scrapes_open += 1;
            self.send(*index, &ToChild::Metrics, &[]);
        }
        if serving.is_empty() {
            self.finish_scrape();
        }
    }

    /// One child's answer.
    pub(super) fn child_metrics(&mut self, index: usize, fds: Vec<OwnedFd>) {
        if !self.seats[index].answered_last_scrape() {
            return;
        }
        let Some(scrape) = &mut self.scrape else {
            return;
        };
        let mut text = String::new();
        if let Some(fd) = fds.into_iter().next() {
            let mut file = File::from(fd);
            let _ = file.rewind();
            let _ = file.read_to_string(&mut text);
        }
        scrape.texts.push(text);
        if scrape.texts.len() >= scrape.expected {
            self.finish_scrape();
        }
    }

    /// Answers with what there is, when it was waited for long enough.
    pub(super) fn tick_scrape(&mut self) {
        if self.scrape.as_ref().is_some_and(Scrape::is_late) {
            self.finish_scrape();
        }
    }

    fn finish_scrape(&mut self) {
        let Some(Scrape {
            answer, mut texts, ..
        }) = self.scrape.take()
        else {
            return;
        };
        let release = self.store.state().release;
        let restarts: u64 = self.seats.iter().map(|seat| seat.restarts).sum();
        let serving = self.seats.iter().filter(|seat| seat.serves()).count();
        texts.push(format!(
            "# HELP protoplex_children_serving Children that answer requests.\n# TYPE protoplex_children_serving gauge\n\
             protoplex_children_serving {serving}\n\
             # HELP protoplex_child_restarts_total Children that were started again.\n\
             # TYPE protoplex_child_restarts_total counter\nprotoplex_child_restarts_total {restarts}\n\
             # HELP protoplex_release_sequence The highest release taken, within its epoch.\n\
             # TYPE protoplex_release_sequence gauge\nprotoplex_release_sequence{{epoch=\"{}\"}} {}\n\
             # HELP protoplex_log_lines_lost Lines of the log that could not be written.\n\
             # TYPE protoplex_log_lines_lost gauge\nprotoplex_log_lines_lost{{child=\"parent\"}} {}\n",
            release.epoch, release.sequence, log_output::lost()
        ));
        let _ = answer.send(merge(&texts));
    }
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
    use super::merge;

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
    fn what_belongs_to_a_histogram_stays_under_its_head_wherever_it_comes_from() {
        let head = "# HELP h H.\n# TYPE h histogram\n";
        let next = "# HELP n N.\n# TYPE n gauge\nn 1\n";
        let samples = "h_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n";
        // The first child has none of them yet.
        let texts = [format!("{head}{next}"), format!("{head}{samples}{next}")];
        let next = "# HELP n N.\n# TYPE n gauge\nn 1\nn 1\n";
        assert_eq!(merge(&texts), format!("{head}{samples}{next}"));
    }
}
