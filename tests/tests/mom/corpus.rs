//! Programs by hand, over every construct: `corpus/*.cases`.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use overcommit_tests::mom::{Answer, Case, Oracle};
use serde_json::Value;

use crate::differences::{ROWS, Verdict, compare, explains, row};
use crate::ours::Ours;
use crate::worlds;

/// What MOM makes of a program, by the section that it stands in.
#[derive(Clone, Debug, PartialEq)]
enum Expected {
    /// Values, and the same ones here.
    Values,
    /// An error of this class, and an error here, too.
    Error(String),
    /// Something else than here, for the reason of this name.
    Differs(String),
    /// Something else than here, for no good reason.
    Bug,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// File and line, for messages.
    place: String,
    program: String,
    expected: Expected,
    world: Value,
}

impl Entry {
    /// As both evaluators take it.
    pub(crate) fn case(&self) -> Case {
        Case { files: vec![self.program.clone().into()], input: self.world.clone() }
    }
}

/// Every program of the corpus.
pub(crate) fn entries() -> Result<Vec<Entry>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mom/corpus");
    let mut files: Vec<_> = fs::read_dir(&folder)?.flatten().map(|entry| entry.path()).collect();
    files.sort();
    let mut entries = Vec::new();
    for file in files {
        let name = file.file_stem().and_then(|stem| stem.to_str()).context("file name")?;
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        read(name, &text, &mut entries)?;
    }
    Ok(entries)
}

/// A program a line; indented lines belong to the one above, `;` begins a comment, `[...]` a section.
fn read(file: &str, text: &str, entries: &mut Vec<Entry>) -> Result<()> {
    let world = match file {
        "empty" => worlds::empty(),
        "nobody" => worlds::nobody(),
        _ => worlds::plain(),
    };
    let mut section = None;
    for (index, line) in text.split('\n').enumerate() {
        let place = format!("{file}.cases:{}", index + 1);
        if line.starts_with(';') || line.is_empty() {
            continue;
        }
        if line.starts_with(' ') {
            let last = entries.last_mut().with_context(|| format!("{place}: nothing above"))?;
            last.program = format!("{}\n{}", last.program, line.trim_start());
        } else if let Some(expected) = heading(line) {
            section = Some(expected.with_context(|| place)?);
        } else {
            let expected = section.clone().with_context(|| format!("{place}: in no section"))?;
            entries.push(Entry { place, program: line.to_owned(), expected, world: world.clone() });
        }
    }
    Ok(())
}

fn heading(line: &str) -> Option<Result<Expected>> {
    let words = line.strip_prefix('[')?.strip_suffix(']')?;
    match words.split_once(' ').unwrap_or((words, "")) {
        ("values", "") => Some(Ok(Expected::Values)),
        ("bug", "") => Some(Ok(Expected::Bug)),
        ("errors", class) => Some(Ok(Expected::Error(class.to_owned()))),
        ("differs", name) => Some(Ok(Expected::Differs(name.to_owned()))),
        _ => None,
    }
}

#[test]
fn both_make_of_each_program_of_the_corpus_what_its_section_says() -> Result<()> {
    let mut oracle = Oracle::start()?;
    let mut wrong = Vec::new();
    for entry in entries()? {
        let case = entry.case();
        let answer = oracle.ask(&case)?;
        let ours = Ours::of(&case);
        if !right(&entry.expected, &answer, &ours)? {
            let Entry { place, program, expected, .. } = entry;
            wrong.push(format!(
                "{place}: {program}\n  section: {expected:?}\n  MOM: {answer}\n  ours: {ours}"
            ));
        }
    }
    if !wrong.is_empty() {
        bail!("{} programs:\n{}", wrong.len(), wrong.join("\n"));
    }
    Ok(())
}

fn right(expected: &Expected, mom: &Answer, ours: &Ours) -> Result<bool> {
    Ok(match (expected, mom) {
        (Expected::Values, Answer::Whole(_)) => compare(mom, ours) == Verdict::Same,
        (Expected::Error(expected), Answer::Error { class, .. }) => {
            class == expected && compare(mom, ours) == Verdict::Same
        }
        (Expected::Differs(name), _) => {
            explains(row(name).with_context(|| format!("differences.rs has no row {name}"))?, mom, ours)
        }
        (Expected::Bug, _) => compare(mom, ours) == Verdict::Unexplained,
        _ => false,
    })
}

#[test]
fn each_row_of_the_table_of_differences_has_programs_that_need_it() -> Result<()> {
    let entries = entries()?;
    for row in ROWS {
        let needs = |entry: &&Entry| entry.expected == Expected::Differs(row.name.into());
        assert!(entries.iter().any(|entry| needs(&entry)), "no program of the corpus needs {}", row.name);
    }
    Ok(())
}
