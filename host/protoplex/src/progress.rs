//! Progress of a release: answers on stdout, a bar on stderr where a person watches.

use crate::{
    cli,
    output::{self, OutputStream},
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use protoplex_push::PushProgress;
use protoplex_wire::status::{AnswerKind, NodeAnswer, ReleaseEvent};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Format in which events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventFormat {
    /// One JSON object a line.
    Json,
    /// A line for each answer of a node.
    Text,
    /// Refusals of nodes only.
    Quiet,
}

impl EventFormat {
    /// The format that a command's arguments ask for.
    pub fn of(args: &cli::FollowArgs) -> Self {
        match args.json {
            true => Self::Json,
            false => Self::Text,
        }
    }
}

/// Shows one release: the events of a push, a rollback or an adoption.
pub struct ShownRelease {
    format: EventFormat,
    bar: ProgressBar,
    /// Events could not be written, which has been said.
    is_unread: AtomicBool,
}

impl ShownRelease {
    /// Makes an observer that has shown nothing yet.
    pub fn new(format: EventFormat) -> Self {
        let bar = ProgressBar::hidden();
        let style = "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        Self {
            format,
            bar,
            is_unread: AtomicBool::new(false),
        }
    }

    fn print(&self, event: &ReleaseEvent) {
        let written = match (self.format, event) {
            (EventFormat::Json, event) => output::announce(event),
            (
                EventFormat::Text,
                ReleaseEvent::Started {
                    release,
                    build,
                    nodes,
                },
            ) => output::report(format_args!(
                "release {release}: build {} to {} node{}",
                build.short(),
                nodes.len(),
                if nodes.len() == 1 { "" } else { "s" }
            )),
            (EventFormat::Text, ReleaseEvent::Node(answer)) => {
                output::report(answer_line(answer, OutputStream::Stdout))
            }
            (EventFormat::Quiet, ReleaseEvent::Node(answer)) if is_refusal(answer) => {
                output::say(answer_line(answer, OutputStream::Stderr));
                Ok(())
            }
            _ => Ok(()),
        };
        // The release goes on, and its end is the exit code, with nobody at stdout as well.
        if let Err(error) = written
            && !self.is_unread.swap(true, Relaxed)
        {
            tracing::warn!(%error, "events of the release cannot be written to stdout");
        }
    }
}

impl PushProgress for ShownRelease {
    fn note(&self, text: &str) {
        if self.format != EventFormat::Quiet {
            output::say(text);
        }
    }

    fn upload(&self, blobs: usize, bytes: u64) {
        if blobs > 0 && self.format == EventFormat::Text && output::is_watched() {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.bar.set_length(bytes);
            let plural = if blobs == 1 { "" } else { "s" };
            self.bar.set_message(format!("{blobs} blob{plural}"));
        }
    }

    fn uploaded(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    fn event(&self, event: &ReleaseEvent) {
        self.bar.finish_and_clear();
        self.print(event);
    }
}

fn is_refusal(answer: &NodeAnswer) -> bool {
    matches!(answer.answer, AnswerKind::Nack { .. } | AnswerKind::Missing)
}

/// Formats a node's answer as a line: `app-1      prepared     12 ms`
pub fn answer_line(answer: &NodeAnswer, to: OutputStream) -> String {
    let good = !is_refusal(answer);
    let word = match &answer.answer {
        AnswerKind::Prepared => "prepared",
        AnswerKind::Ack => "switched",
        AnswerKind::Nack { .. } => "refused ",
        AnswerKind::Missing => "missing ",
    };
    let word = output::state(word, good, to);
    let line = format!("{:<10} {word} {:>6} ms", answer.node, answer.elapsed_ms);
    match &answer.answer {
        AnswerKind::Nack { stage, reason } => format!("{line}  at {stage}: {reason}"),
        _ => line,
    }
}
