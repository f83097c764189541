//! The text format of Prometheus.

use std::fmt::{Display, Write};

/// A text that grows by families. Each sample has the label `child`.
pub(super) struct Text {
    out: String,
    child: usize,
    family: &'static str,
}

impl Text {
    pub(super) fn new(child: usize) -> Self {
        Self {
            out: String::new(),
            child,
            family: "",
        }
    }

    /// Begins a family: once a name.
    pub(super) fn family(&mut self, name: &'static str, kind: &str, help: &str) -> &mut Self {
        self.family = name;
        // Writing to memory cannot fail.
        let _ = writeln!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        self
    }

    /// A sample of the family.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) -> &mut Self {
        self.suffixed("", labels, value)
    }

    /// A sample of a part of the family, `_bucket` for example.
    pub(super) fn suffixed(
        &mut self,
        suffix: &str,
        labels: &[(&str, &str)],
        value: impl Display,
    ) -> &mut Self {
        let (family, child) = (self.family, self.child);
        let _ = write!(self.out, "{family}{suffix}{{child=\"{child}\"");
        for (name, value) in labels {
            let _ = write!(self.out, ",{name}=\"");
            self.escaped(value);
            self.out.push('"');
        }
        let _ = writeln!(self.out, "}} {value}");
        self
    }

    pub(super) fn done(self) -> String {
        self.out
    }

    fn escaped(&mut self, value: &str) {
        for char in value.chars() {
            match char {
                '\\' => self.out.push_str("\\\\"),
                '"' => self.out.push_str("\\\""),
                '\n' => self.out.push_str("\\n"),
                char => self.out.push(char),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_cannot_end_its_quotes_or_its_line() {
        let mut text = Text::new(0);
        text.family("a_total", "counter", "A.");
        text.sample(&[("route", "/\"\\\nb 1"), ("x", "y")], 1);
        assert_eq!(
            text.done(),
            "# HELP a_total A.\n# TYPE a_total counter\n\
             a_total{child=\"0\",route=\"/\\\"\\\\\\nb 1\",x=\"y\"} 1\n"
        );
    }
}
