//! Faults of a build's manifest, in the words that a person needs to put them right.

use std::fmt;

/// Share of letters that must change between two words which are near, at most.
const NEAR_SHARE_MAX: f64 = 0.34;

/// A fault of the manifest file, or of a file that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFault {
    /// The file, as it was named on the command line.
    pub file: String,
    /// Line of the fault, from 1; 0 when it is the whole file.
    pub line: usize,
    /// The fault, and what to write instead.
    pub text: String,
}

impl fmt::Display for SourceFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.text),
            line => write!(f, "{}:{line}: {}", self.file, self.text),
        }
    }
}

/// All faults that were found, in the order of their lines. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFaults(pub Vec<SourceFault>);

impl SourceFaults {
    /// A single fault of a whole file.
    pub fn one(file: impl Into<String>, text: impl Into<String>) -> Self {
        Self(vec![SourceFault {
            file: file.into(),
            line: 0,
            text: text.into(),
        }])
    }
}

impl fmt::Display for SourceFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for SourceFaults {}

/// The known word that `word` was probably meant to be.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| {
            let letters = word.chars().count().max(candidate.chars().count());
            *distance as f64 <= (letters as f64 * NEAR_SHARE_MAX).max(1.0)
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The end of a sentence about an unknown word: the nearest known one, or all of them.
pub(crate) fn instead(word: &str, known: &[&str]) -> String {
    if let Some(near) = nearest(word, known.iter().copied()) {
        return format!("did you mean `{near}`?");
    }
    let list: Vec<String> = known.iter().map(|k| format!("`{k}`")).collect();
    match list.as_slice() {
        [] => "there is none to choose from".to_owned(),
        [one] => format!("it may only be {one}"),
        [most @ .., last] => format!("it may be {} or {last}", most.join(", ")),
    }
}
