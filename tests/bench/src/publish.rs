//! Keeps tables, and a picture of each, with the sources.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use overcommit_tests::parts::say;

use crate::markdown;
use crate::outcome::Outcome;
use crate::page::bars::bars;
use crate::summary::summary;

/// Writes `NAME.md` into the folder, and for each scenario a picture of the work, `NAME-SCENARIO.svg`.
pub(crate) fn publish(folder: &Path, name: &str, machine: &str, outcomes: &[Outcome]) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let write = |file: String, text: String| {
        let path = folder.join(file);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        say(&format!("bench: published as {}", path.display()));
        anyhow::Ok(())
    };
    for (scenario, rows) in summary(outcomes) {
        write(format!("{name}-{scenario}.svg"), format!("{}\n", bars(&rows, |row| row.work)))?;
    }
    let table = markdown::markdown(machine, outcomes, Some(name));
    let head = format!("# Controllers of memory compared: {name}\n\nWritten by `make bench PUBLISH={name}`.");
    write(format!("{name}.md"), format!("{head} {table}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::Controller;
    use crate::outcome::tests::outcome;

    #[test]
    fn a_table_is_published_with_a_picture_of_the_work() {
        let dir = tempfile::tempdir().unwrap();
        let outcomes = [outcome(Controller::None, 1, &[25_600]), outcome(Controller::Ours, 1, &[51_200])];
        publish(&dir.path().join("new"), "first", "A machine.", &outcomes).unwrap();
        let read = |file: &str| fs::read_to_string(dir.path().join("new").join(file)).unwrap();
        let table = read("first.md");
        assert!(
            table.starts_with("# Controllers") && table.contains("| ours | 1 | 2.0 (2.0–2.0) |"),
            "{table}"
        );
        assert!(table.contains("![Work, MiB/s](first-f.svg)"), "{table}");
        assert!(read("first-f.svg").contains("ours"));
    }
}
