//! Troubles in the log: each once when it begins and once when it ends, however often reports repeat it.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use overcommit_core::troubles::wording;

use super::Report;

/// The troubles that were told and have not ended, by their words without numbers: most of them say how long they last.
#[derive(Debug, Default)]
pub(super) struct Told {
    troubles: BTreeMap<String, String>,
    /// What the policy's program says and nobody does.
    notes: Arc<BTreeSet<String>>,
}

impl Told {
    /// Logs what changed with this report.
    pub(super) fn log(&mut self, report: &Report) {
        let (began, ended) = self.turn(report);
        for trouble in began {
            tracing::warn!("{trouble}");
        }
        for trouble in ended {
            tracing::info!("no longer: {trouble}");
        }
        for note in self.news_of_program(report) {
            tracing::info!("the policy's program: {note}");
        }
    }

    /// What the policy's program says and nobody does, as far as it was not told.
    fn news_of_program(&mut self, report: &Report) -> Vec<String> {
        let Some(program) = &report.program else { return Vec::new() };
        let news = program.notes.difference(&self.notes).cloned().collect();
        self.notes.clone_from(&program.notes);
        news
    }

    /// What began with this report, in its order, and what ended.
    fn turn(&mut self, report: &Report) -> (Vec<String>, Vec<String>) {
        let now: BTreeSet<String> = report.troubles.iter().map(wording).collect();
        let mut ended = Vec::new();
        // Where the host cannot be read nobody looked at the rest.
        if report.ledger.is_some() {
            self.troubles.retain(|words, trouble| {
                let lasts = now.contains(words);
                if !lasts {
                    ended.push(std::mem::take(trouble));
                }
                lasts
            });
        }
        let told = &mut self.troubles;
        let news = |trouble: &&str| match told.entry(wording(trouble)) {
            Entry::Vacant(place) => {
                place.insert((*trouble).to_owned());
                true
            }
            Entry::Occupied(_) => false,
        };
        (report.troubles.iter().filter(news).map(str::to_owned).collect(), ended)
    }
}

#[cfg(test)]
mod tests {
    use overcommit_core::troubles::Troubles;

    use super::*;
    use crate::report::fixture;

    fn with(of_guests: &[&str]) -> Report {
        let mut troubles = Troubles::default();
        troubles.add_of_guests(of_guests.iter().map(|t| (*t).to_owned()));
        Report { troubles, ..fixture::report(Vec::new()) }
    }

    #[test]
    fn a_trouble_is_told_once_when_it_begins_and_once_when_it_ends() {
        let mut told = Told::default();
        let none: Vec<String> = Vec::new();
        let (began, ended) =
            told.turn(&with(&["libvirt of a-1 hangs for 3 s", "libvirt of a-2 hangs for 4 s"]));
        assert_eq!((began.len(), &ended), (2, &none), "{began:?}");
        let same = with(&["libvirt of a-2 hangs for 5.5 s", "libvirt of a-1 hangs for 4 s"]);
        assert_eq!(told.turn(&same), (none.clone(), none.clone()));
        let unreadable = Report { ledger: None, ..with(&["no meminfo"]) };
        assert_eq!(told.turn(&unreadable), (vec!["no meminfo".to_owned()], none.clone()));
        let ended = vec!["libvirt of a-1 hangs for 3 s".to_owned(), "no meminfo".to_owned()];
        assert_eq!(told.turn(&with(&["libvirt of a-2 hangs for 9 s"])), (none.clone(), ended));
        assert_eq!(told.turn(&with(&[])).1, ["libvirt of a-2 hangs for 4 s"]);
        assert_eq!(told.turn(&with(&[])), (none.clone(), none));
    }

    #[test]
    fn what_a_program_says_and_nobody_does_is_told_once() {
        let mut told = Told::default();
        let with = |notes: &[&str]| {
            let notes = Arc::new(notes.iter().map(|note| (*note).to_owned()).collect());
            let program = Some(overcommit_core::mom::Told { notes, ..Default::default() });
            Report { program, ..fixture::report(Vec::new()) }
        };
        assert_eq!(told.news_of_program(&with(&["a"])), ["a"]);
        assert_eq!(told.news_of_program(&with(&["a", "b"])), ["b"]);
        assert!(told.news_of_program(&with(&["a", "b"])).is_empty());
    }

    #[test]
    fn the_nodes_own_troubles_are_logged_before_those_of_guests() {
        let mut report = with(&["a guest is lost"]);
        report.troubles.add_own(["the disk is full".to_owned()]);
        assert_eq!(Told::default().turn(&report).0, ["the disk is full", "a guest is lost"]);
    }
}
