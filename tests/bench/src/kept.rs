//! Outcomes in a file, a line each: what was run is not run again, and an interruption costs one window.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::origin::Origin;
use crate::outcome::{Key, Outcome};

/// Name of the file.
pub(crate) const FILE: &str = "outcomes.jsonl";

/// All outcomes so far.
#[derive(Debug)]
pub(crate) struct Kept {
    path: PathBuf,
    outcomes: Vec<Outcome>,
}

impl Kept {
    /// Those in this folder, which is made if it is not there. A last line that an interruption tore is dropped.
    ///
    /// # Errors
    /// When a line is no outcome, with its number: another version may have written it.
    pub(crate) fn in_folder(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let path = folder.join(FILE);
        let text = if path.exists() { fs::read_to_string(&path)? } else { String::new() };
        let whole = text.rfind('\n').map_or("", |end| text.get(..end).unwrap_or_default());
        let read = |(number, line): (usize, &str)| {
            serde_json::from_str::<Outcome>(line).with_context(|| {
                format!(
                    "{}, line {}: another version wrote it; move the file away",
                    path.display(),
                    number + 1
                )
            })
        };
        let outcomes = whole.lines().enumerate().map(read).collect::<Result<Vec<_>>>()?;
        if !text.is_empty() && !text.ends_with('\n') {
            fs::write(&path, if whole.is_empty() { String::new() } else { format!("{whole}\n") })?;
        }
        Ok(Self { path, outcomes })
    }

    /// What there is of these, each window once, as it came out last; and how many there are of others.
    pub(crate) fn of(&self, origin: &Origin) -> (Vec<Outcome>, usize) {
        let mut outcomes: Vec<Outcome> = Vec::new();
        let ours = self.outcomes.iter().filter(|outcome| outcome.origin == *origin);
        for outcome in ours.clone() {
            outcomes.retain(|earlier| earlier.key != outcome.key);
            outcomes.push(outcome.clone());
        }
        (outcomes, self.outcomes.len() - ours.count())
    }

    /// Of what the last one is, which may be of another build or machine than this.
    pub(crate) fn last(&self) -> Option<&Origin> {
        self.outcomes.last().map(|outcome| &outcome.origin)
    }

    /// What this window came to, run by these, if it had a result.
    pub(crate) fn find(&self, key: &Key, origin: &Origin) -> Option<&Outcome> {
        let is =
            |outcome: &&Outcome| outcome.key == *key && outcome.origin == *origin && outcome.void().is_none();
        self.outcomes.iter().find(is)
    }

    /// Whether it had one.
    pub(crate) fn has(&self, key: &Key, origin: &Origin) -> bool {
        self.find(key, origin).is_some()
    }

    /// Adds one, on the disk when this returns.
    pub(crate) fn add(&mut self, outcome: Outcome) -> Result<()> {
        let line = serde_json::to_string(&outcome)? + "\n";
        let mut file = File::options().create(true).append(true).open(&self.path)?;
        file.write_all(line.as_bytes()).and_then(|()| file.sync_all())?;
        self.outcomes.push(outcome);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::Controller;
    use crate::outcome::tests::outcome;

    #[test]
    fn what_an_interruption_tore_is_run_again_and_the_rest_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (outcome(Controller::None, 1, &[1]), outcome(Controller::Ours, 1, &[2]));
        let mut kept = Kept::in_folder(dir.path()).unwrap();
        kept.add(first.clone()).unwrap();
        kept.add(second.clone()).unwrap();
        let path = dir.path().join(FILE);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, &text[..text.len() - 9]).unwrap();
        let mut kept = Kept::in_folder(dir.path()).unwrap();
        let has = |kept: &Kept, outcome: &Outcome| kept.has(&outcome.key, &outcome.origin);
        assert!(has(&kept, &first) && !has(&kept, &second));
        kept.add(second).unwrap();
        assert_eq!(Kept::in_folder(dir.path()).unwrap().of(&first.origin).0.len(), 2);
    }

    #[test]
    fn what_another_build_or_machine_did_is_run_again_and_not_mixed_in() {
        let dir = tempfile::tempdir().unwrap();
        let mut kept = Kept::in_folder(dir.path()).unwrap();
        let first = outcome(Controller::None, 1, &[1]);
        kept.add(first.clone()).unwrap();
        let here = &first.origin;
        for other in [
            Origin { build: "c".into(), ..here.clone() },
            Origin { machine: "Another one.".into(), ..here.clone() },
        ] {
            assert!(!kept.has(&first.key, &other));
            assert_eq!(kept.of(&other), (Vec::new(), 1));
        }
        assert_eq!((kept.of(here), kept.last()), ((vec![first.clone()], 0), Some(here)));
    }

    #[test]
    fn what_failed_is_kept_and_run_again_and_then_counts_as_it_came_out_last() {
        let dir = tempfile::tempdir().unwrap();
        let mut kept = Kept::in_folder(dir.path()).unwrap();
        let done = outcome(Controller::None, 1, &[1]);
        let failed = Outcome::failed(done.key, &done.origin, "no guests".into());
        kept.add(failed.clone()).unwrap();
        assert!(!kept.has(&done.key, &done.origin));
        assert_eq!(kept.of(&done.origin).0, [failed]);
        kept.add(done.clone()).unwrap();
        assert!(kept.has(&done.key, &done.origin));
        assert_eq!(kept.of(&done.origin).0, [done]);
    }

    #[test]
    fn a_line_of_another_version_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "{}\n").unwrap();
        assert!(Kept::in_folder(dir.path()).unwrap_err().to_string().contains("line 1"));
    }
}
