//! Who accepts on whose sockets. No I/O: the supervisor tells children what [`adoptions`] says.

use super::child_record::ChildRecord;

/// A change of who accepts on the sockets of `child`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Adoption {
    Adopt { by: usize, child: usize },
    Disown { by: usize, child: usize },
}

/// Changes that make every socket accepted on: those of a child that does not serve, or is quiet, by a sibling.
pub(super) fn adoptions(children: &mut [ChildRecord]) -> Vec<Adoption> {
    let mut changes = Vec::new();
    for child in 0..children.len() {
        let before = children[child].adopter();
        let adopter = before.filter(|&by| children[by].accepts());
        let accepts = children[child].accepts();
        if let Some(by) = before
            && adopter.is_none()
            && children[by].process().is_some()
        {
            // The adopter is quiet; it reads that when it is back.
            changes.push(Adoption::Disown { by, child });
        }
        let next = match adopter {
            Some(by) if accepts => {
                changes.push(Adoption::Disown { by, child });
                None
            }
            None if !accepts => {
                let by = least_loaded(children);
                if let Some(by) = by {
                    changes.push(Adoption::Adopt { by, child });
                }
                by
            }
            same => same,
        };
        children[child].set_adopter(next);
    }
    changes
}

/// The child with the fewest connections among those that accept.
fn least_loaded(children: &[ChildRecord]) -> Option<usize> {
    let accepting = children.iter().enumerate();
    accepting
        .filter(|(_, child)| child.accepts())
        .min_by_key(|(_, child)| child.connections())
        .map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::child_record::Silence;
    use protoplex_control::messages::Beat;
    use std::time::{Duration, Instant};

    fn serving(count: usize) -> Vec<ChildRecord> {
        let now = Instant::now();
        let child = |_| {
            let mut child = ChildRecord::new(now);
            child.serves_since(now);
            child
        };
        (0..count).map(child).collect()
    }

    fn died(child: &mut ChildRecord) {
        child.died("a signal".into(), Instant::now());
    }

    #[test]
    fn a_dead_childs_sockets_are_a_siblings_until_it_serves_again() {
        let mut all = serving(3);
        assert_eq!(adoptions(&mut all), []);
        died(&mut all[1]);
        all[0].set_beat(Beat {
            connections: 9,
            ..Beat::default()
        });
        assert_eq!(adoptions(&mut all), [Adoption::Adopt { by: 2, child: 1 }]);
        assert_eq!(adoptions(&mut all), []);
        // The adopter dies as well: both go to the last one.
        died(&mut all[2]);
        let both = [
            Adoption::Adopt { by: 0, child: 1 },
            Adoption::Adopt { by: 0, child: 2 },
        ];
        assert_eq!(adoptions(&mut all), both);
        all[1].serves_since(Instant::now());
        assert_eq!(adoptions(&mut all), [Adoption::Disown { by: 0, child: 1 }]);
        died(&mut all[0]);
        let moved = [
            Adoption::Adopt { by: 1, child: 0 },
            Adoption::Adopt { by: 1, child: 2 },
        ];
        assert_eq!(adoptions(&mut all), moved);
    }

    #[test]
    fn a_quiet_childs_sockets_are_a_siblings_until_it_speaks() {
        let second = Duration::from_secs(1);
        let mut all = serving(2);
        assert_eq!(all[1].judge(second * 2, second * 7), Silence::Quiet);
        assert_eq!(adoptions(&mut all), [Adoption::Adopt { by: 0, child: 1 }]);
        assert!(all[1].heard(second * 10));
        assert_eq!(adoptions(&mut all), [Adoption::Disown { by: 0, child: 1 }]);
    }
}
