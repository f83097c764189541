//! A TOML document, read key by key: every fault is kept with its line, and reading goes on.
//!
//! Done by hand and not by serde's derive, which stops at the first fault and knows no line of a missing key.

use crate::fault::{SourceFault, instead};
use protoplex_wire::manifest::ManifestPath;
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};
use toml::{
    Spanned,
    de::{DeArray, DeTable, DeValue},
};

/// Collects faults, and the lines of keys.
pub(crate) struct FaultReport {
    file: String,
    line_starts: Vec<usize>,
    faults: RefCell<Vec<SourceFault>>,
    lines: RefCell<BTreeMap<ManifestPath, usize>>,
    /// Values that could not be read, and have a stand-in in the manifest.
    unread: RefCell<BTreeSet<ManifestPath>>,
}

impl FaultReport {
    pub(crate) fn new(file: &str, text: &str) -> Self {
        let starts = text.bytes().enumerate().filter(|(_, b)| *b == b'\n');
        Self {
            file: file.to_owned(),
            line_starts: std::iter::once(0)
                .chain(starts.map(|(at, _)| at + 1))
                .collect(),
            faults: RefCell::default(),
            lines: RefCell::default(),
            unread: RefCell::default(),
        }
    }

    /// Number of the line that a byte is in, from 1.
    pub(crate) fn line_at(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }

    /// Line of a value that was read, or else of the nearest part of the manifest around it.
    pub(crate) fn line_of(&self, path: &ManifestPath) -> Option<usize> {
        let lines = self.lines.borrow();
        path.and_above().find_map(|path| lines.get(&path).copied())
    }

    /// Whether a value, or what it is part of, could not be read, which was said already.
    pub(crate) fn is_unread(&self, path: &ManifestPath) -> bool {
        let unread = self.unread.borrow();
        path.and_above().any(|path| unread.contains(&path))
    }

    pub(crate) fn fault(&self, line: usize, text: impl Into<String>) {
        self.faults.borrow_mut().push(SourceFault {
            file: self.file.clone(),
            line,
            text: text.into(),
        });
    }

    /// Adds a fault of something that is no line of the file, such as a flag.
    pub(crate) fn fault_elsewhere(&self, place: &str, text: impl Into<String>) {
        self.faults.borrow_mut().push(SourceFault {
            file: place.to_owned(),
            line: 0,
            text: text.into(),
        });
    }

    /// Returns all faults, by line.
    pub(crate) fn into_faults(self) -> Vec<SourceFault> {
        let mut faults = self.faults.into_inner();
        faults.sort_by_key(|fault| fault.line);
        faults
    }

    fn note_line(&self, path: ManifestPath, span: Range<usize>) -> usize {
        let line = self.line_at(span.start);
        self.lines.borrow_mut().insert(path, line);
        line
    }

    fn note_unread(&self, path: ManifestPath) {
        self.unread.borrow_mut().insert(path);
    }
}

/// A value and its line.
#[derive(Clone, Debug)]
pub(crate) struct Located<T> {
    pub(crate) value: T,
    pub(crate) line: usize,
}

/// One table that is being read. Keys that are asked for are known; [`TomlSection::finish`] refuses all others.
pub(crate) struct TomlSection<'a> {
    report: &'a FaultReport,
    path: ManifestPath,
    line: usize,
    table: &'a DeTable<'a>,
    known: Vec<&'static str>,
}

impl<'a> TomlSection<'a> {
    pub(crate) fn top(report: &'a FaultReport, table: &'a DeTable<'a>) -> Self {
        Self {
            report,
            path: ManifestPath::default(),
            line: 1,
            table,
            known: Vec::new(),
        }
    }

    fn join(&self, key: &str) -> ManifestPath {
        self.path.key(key.to_owned())
    }

    fn place(&self) -> String {
        if self.path.segments().is_empty() {
            "at the top level".to_owned()
        } else {
            format!("in {}", self.path)
        }
    }

    fn raw(&mut self, key: &'static str) -> Option<(&'a Spanned<DeValue<'a>>, usize)> {
        self.known.push(key);
        let (name, value) = self.table.get_key_value(key)?;
        let line = self.report.note_line(self.join(key), name.span());
        Some((value, line))
    }

    /// Adds the fault that a value is of another kind than is wanted.
    fn wrong(&self, key: &str, line: usize, wanted: &str, value: &DeValue<'_>) {
        self.wrong_item(key, line, wanted, value);
        self.report.note_unread(self.join(key));
    }

    /// Adds the fault that a member of the list at `key` is of another kind than is wanted.
    fn wrong_item(&self, key: &str, line: usize, wanted: &str, value: &DeValue<'_>) {
        let text = format!(
            "`{key}` {} must be {wanted}, not {}",
            self.place(),
            kind(value)
        );
        self.report.fault(line, text);
    }

    /// Unwraps the value of a key that must be there, or adds a fault.
    pub(crate) fn required<T>(&self, key: &str, value: Option<T>, example: &str) -> Option<T> {
        if value.is_none() && !self.table.contains_key(key) {
            let text = format!("`{key}` is missing {}; write {example}", self.place());
            self.report.fault(self.line, text);
            self.report.note_unread(self.join(key));
        }
        value
    }

    pub(crate) fn string(&mut self, key: &'static str) -> Option<Located<String>> {
        let (value, line) = self.raw(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(Located {
                value: text.to_string(),
                line,
            }),
            other => {
                self.wrong(key, line, "a string in quotes", other);
                None
            }
        }
    }

    /// Reads a list of strings; absent is empty.
    pub(crate) fn strings(&mut self, key: &'static str) -> Vec<String> {
        let Some((value, line)) = self.raw(key) else {
            return Vec::new();
        };
        let wanted = r#"a list of strings, such as ["a", "b"]"#;
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong(key, line, wanted, value.get_ref());
            return Vec::new();
        };
        let mut texts = Vec::new();
        for item in items.iter() {
            let path = self.join(key).index(texts.len());
            let line = self.report.note_line(path, item.span());
            match item.get_ref() {
                DeValue::String(text) => texts.push(text.to_string()),
                other => self.wrong_item(key, line, wanted, other),
            }
        }
        texts
    }

    /// Reads a whole number that is not negative.
    pub(crate) fn integer(&mut self, key: &'static str) -> Option<Located<u64>> {
        let (value, line) = self.raw(key)?;
        let wanted = "a whole number without quotes or units, such as 16_777_216";
        let number = match value.get_ref() {
            DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        // The canonical form has no number that a double cannot hold.
        match number.filter(|n| *n <= 1 << 53) {
            Some(value) => Some(Located { value, line }),
            None => {
                self.wrong(key, line, wanted, value.get_ref());
                None
            }
        }
    }

    pub(crate) fn integer_u32(&mut self, key: &'static str) -> Option<Located<u32>> {
        let Located { value, line } = self.integer(key)?;
        if let Ok(value) = u32::try_from(value) {
            return Some(Located { value, line });
        }
        let text = format!(
            "`{key}` {} is {value}; {} is the most",
            self.place(),
            u32::MAX
        );
        self.report.fault(line, text);
        None
    }

    pub(crate) fn boolean(&mut self, key: &'static str) -> Option<Located<bool>> {
        let (value, line) = self.raw(key)?;
        match value.get_ref() {
            DeValue::Boolean(value) => Some(Located {
                value: *value,
                line,
            }),
            other => {
                self.wrong(key, line, "`true` or `false`", other);
                None
            }
        }
    }

    /// Reads a key whose value may be a string or a table.
    pub(crate) fn string_or_section(
        &mut self,
        key: &'static str,
        wanted: &str,
    ) -> Option<StringOrSection<'a>> {
        let (value, line) = self.raw(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(StringOrSection::String(Located {
                value: text.to_string(),
                line,
            })),
            DeValue::Table(table) => Some(StringOrSection::Section(self.child(key, line, table))),
            other => {
                self.wrong(key, line, wanted, other);
                None
            }
        }
    }

    /// Reads a table under this one.
    pub(crate) fn section(&mut self, key: &'static str) -> Option<TomlSection<'a>> {
        let (value, line) = self.raw(key)?;
        match value.get_ref() {
            DeValue::Table(table) => Some(self.child(key, line, table)),
            other => {
                let wanted = format!("a table, written [{}]", self.join(key));
                self.wrong(key, line, &wanted, other);
                None
            }
        }
    }

    /// Reads a list of tables, with nothing in the place of what is none.
    pub(crate) fn sections(&mut self, key: &'static str) -> Vec<Option<TomlSection<'a>>> {
        let Some((value, line)) = self.raw(key) else {
            return Vec::new();
        };
        let wanted = format!("a list of tables, each written [[{}]]", self.join(key));
        let mut found = Vec::new();
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong(key, line, &wanted, value.get_ref());
            return found;
        };
        let items: &DeArray<'_> = items;
        for (index, item) in items.iter().enumerate() {
            let path = self.join(key).index(index);
            let line = self.report.note_line(path.clone(), item.span());
            found.push(match item.get_ref() {
                DeValue::Table(table) => Some(TomlSection {
                    report: self.report,
                    path,
                    line,
                    table,
                    known: Vec::new(),
                }),
                other => {
                    self.wrong_item(key, line, &wanted, other);
                    self.report.note_unread(path);
                    None
                }
            });
        }
        found
    }

    /// Reads tables under names that people choose.
    pub(crate) fn named_sections(&mut self, key: &'static str) -> Vec<(String, TomlSection<'a>)> {
        let Some(section) = self.section(key) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for (name, value) in section.table {
            let path = section.join(name.get_ref());
            let line = self.report.note_line(path.clone(), name.span());
            match value.get_ref() {
                DeValue::Table(table) => {
                    found.push((
                        name.get_ref().to_string(),
                        section.child(name.get_ref(), line, table),
                    ));
                }
                other => section.wrong(
                    name.get_ref(),
                    line,
                    &format!("a table, written [{path}]"),
                    other,
                ),
            }
        }
        found
    }

    /// Reads strings under names that people choose.
    pub(crate) fn named_strings(&mut self, key: &'static str) -> BTreeMap<String, String> {
        let Some(section) = self.section(key) else {
            return BTreeMap::new();
        };
        let mut found = BTreeMap::new();
        for (name, value) in section.table {
            let line = self
                .report
                .note_line(section.join(name.get_ref()), name.span());
            match value.get_ref() {
                DeValue::String(text) => {
                    found.insert(name.get_ref().to_string(), text.to_string());
                }
                other => section.wrong(name.get_ref(), line, "a string in quotes", other),
            }
        }
        found
    }

    fn child(&self, key: &str, line: usize, table: &'a DeTable<'a>) -> TomlSection<'a> {
        TomlSection {
            report: self.report,
            path: self.join(key),
            line,
            table,
            known: Vec::new(),
        }
    }

    pub(crate) fn fault(&self, line: usize, text: impl Into<String>) {
        self.report.fault(line, text);
    }

    /// Adds a fault for every key that nobody asked for.
    pub(crate) fn finish(self) {
        for name in self.table.keys() {
            let key: &str = name.get_ref();
            if !self.known.contains(&key) {
                let text = format!(
                    "unknown key `{key}` {}; {}",
                    self.place(),
                    instead(key, &self.known)
                );
                self.report
                    .fault(self.report.line_at(name.span().start), text);
            }
        }
    }
}

/// The value that [`TomlSection::string_or_section`] found.
pub(crate) enum StringOrSection<'a> {
    String(Located<String>),
    Section(TomlSection<'a>),
}

fn kind(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the string {text:?}"),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(value) => format!("`{value}`"),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}
