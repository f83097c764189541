//! Entries under sequences of words, such as the segments of a path: found in one walk, as far as the tree goes along.

use smallvec::SmallVec;
use std::collections::HashMap;

/// A tree of words, with an entry where a sequence ends.
#[derive(Debug)]
pub(super) struct Tree<T> {
    entry: Option<T>,
    below: HashMap<Box<str>, Tree<T>>,
}

impl<T> Default for Tree<T> {
    fn default() -> Self {
        Self {
            entry: None,
            below: HashMap::new(),
        }
    }
}

impl<T: Default> Tree<T> {
    /// The entry of a sequence, made where there is none.
    pub(super) fn entry<'w>(&mut self, words: impl Iterator<Item = &'w str>) -> &mut T {
        let end = words.fold(self, |tree, word| {
            tree.below.entry(word.into()).or_default()
        });
        end.entry.get_or_insert_default()
    }
}

impl<T> Tree<T> {
    /// The entries of all sequences that `words` begin with, the shortest first.
    pub(super) fn along<'a, 'w>(
        &'a self,
        words: impl Iterator<Item = &'w str>,
    ) -> SmallVec<[&'a T; 4]> {
        let mut found: SmallVec<[&T; 4]> = self.entry.iter().collect();
        let mut tree = self;
        for word in words {
            // No word is looked up where there is nothing to find, however long it is.
            if tree.below.is_empty() {
                break;
            }
            #[cfg(test)]
            LOOKED_UP.set(LOOKED_UP.get() + 1);
            let Some(below) = tree.below.get(word) else {
                break;
            };
            tree = below;
            found.extend(&tree.entry);
        }
        found
    }
}

#[cfg(test)]
thread_local!(static LOOKED_UP: std::cell::Cell<usize> = const { std::cell::Cell::new(0) });

/// Number of words that this thread has looked up since it was last asked.
#[cfg(test)]
pub(super) fn looked_up() -> usize {
    LOOKED_UP.replace(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_along_the_way() {
        let mut tree = Tree::<&str>::default();
        for (path, entry) in [("", "root"), ("a/b", "a/b"), ("a/b/c", "a/b/c")] {
            *tree.entry(path.split('/').filter(|word| !word.is_empty())) = entry;
        }
        for (path, entries) in [
            ("a", &["root"][..]),
            ("a/b", &["root", "a/b"]),
            ("a/b/c/d", &["root", "a/b", "a/b/c"]),
            ("b/a", &["root"]),
        ] {
            let found = tree.along(path.split('/'));
            assert_eq!(
                found.iter().map(|found| **found).collect::<Vec<_>>(),
                entries
            );
        }
    }
}
