//! Programs by hand, over every construct: `corpus/*.cases`.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use overcommit_tests::mom::{Answer, Case, Oracle};
use serde_json::Value;

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
}

#[derive(Clone, Debug)]
struct Entry {
    /// File and line, for messages.
    place: String,
    program: String,
    expected: Expected,
    world: Value,
}

/// Every program of the corpus.
fn entries() -> Result<Vec<Entry>> {
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
        ("errors", class) => Some(Ok(Expected::Error(class.to_owned()))),
        ("differs", name) => Some(Ok(Expected::Differs(name.to_owned()))),
        _ => None,
    }
}

#[test]
fn mom_makes_of_each_program_of_the_corpus_what_its_section_says() -> Result<()> {
    let mut oracle = Oracle::start()?;
    let mut wrong = Vec::new();
    for entry in entries()? {
        let case = Case { files: vec![entry.program.clone().into()], input: entry.world.clone() };
        let answer = oracle.ask(&case)?;
        let right = match (&entry.expected, &answer) {
            (Expected::Values, Answer::Whole(_)) | (Expected::Differs(_), _) => true,
            (Expected::Error(expected), Answer::Error { class, .. }) => class == expected,
            _ => false,
        };
        if !right {
            wrong.push(format!("{}: {} is not {:?}: {answer:?}", entry.place, entry.program, entry.expected));
        }
    }
    if !wrong.is_empty() {
        bail!("{} programs:\n{}", wrong.len(), wrong.join("\n"));
    }
    Ok(())
}
