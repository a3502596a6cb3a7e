//! Troubles in the log: each once when it begins and once when it ends, however often reports repeat it.

use std::collections::BTreeMap;

use super::Report;

/// The troubles that were told and have not ended, by their words without numbers: most of them say how long they last.
#[derive(Debug, Default)]
pub(super) struct Told(BTreeMap<String, String>);

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
    }

    /// What began with this report, and what ended.
    fn turn(&mut self, report: &Report) -> (Vec<String>, Vec<String>) {
        let now: BTreeMap<String, &String> = report.troubles.iter().map(|t| (wording(t), t)).collect();
        let mut ended = Vec::new();
        // Where the host cannot be read nobody looked at the rest.
        if report.ledger.is_some() {
            self.0.retain(|words, trouble| {
                let lasts = now.contains_key(words);
                if !lasts {
                    ended.push(std::mem::take(trouble));
                }
                lasts
            });
        }
        let began = now.into_iter().filter(|(words, _)| !self.0.contains_key(words));
        let began: Vec<(String, String)> = began.map(|(words, t)| (words, t.clone())).collect();
        self.0.extend(began.iter().cloned());
        (began.into_iter().map(|(_, trouble)| trouble).collect(), ended)
    }
}

/// The words that are no numbers; one within a word, as in the name of a guest, stays.
fn wording(trouble: &str) -> String {
    trouble.split_whitespace().filter(|word| word.parse::<f64>().is_err()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    fn with(troubles: &[&str]) -> Report {
        let troubles = troubles.iter().map(|t| (*t).to_owned()).collect();
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
}
