//! Programs by hand, over every construct: `corpus/*.cases`.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use overcommit_tests::mom::{Answer, Case, Oracle};
use serde_json::Value;

use crate::differences::{ISOLATION, ROWS, Verdict, explains, judge, row};
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
        "methods" => worlds::like_methods(),
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
fn both_make_of_each_program_of_the_corpus_what_its_section_says() -> Result<()> {
    let mut oracle = Oracle::start()?;
    let mut wrong = Vec::new();
    for entry in entries()? {
        let case = entry.case();
        let ours = Ours::of(&case);
        let (answer, verdict) = judge(&mut oracle, &case, &ours)?;
        if !right(&entry.expected, &answer, &ours, verdict)? {
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

fn right(expected: &Expected, mom: &Answer, ours: &Ours, verdict: Verdict) -> Result<bool> {
    Ok(match (expected, mom) {
        (Expected::Values, Answer::Whole(_)) => verdict == Verdict::Same,
        (Expected::Error(expected), Answer::Error { class, .. }) => {
            class == expected && verdict == Verdict::Same
        }
        (Expected::Differs(name), _) if name == ISOLATION => verdict == Verdict::OnPurpose(ISOLATION),
        (Expected::Differs(name), _) => {
            explains(row(name).with_context(|| format!("differences.rs has no row {name}"))?, mom, ours)
        }
        _ => false,
    })
}

/// Bytes that a line of a corpus file cannot have.
fn bytes() -> [(&'static [u8], Expected); 9] {
    let differs = |name: &str| Expected::Differs(name.into());
    let error = |class: &str| Expected::Error(class.into());
    [
        (b"1\r\n(+ 1\r\n2) # a comment\r\n", Expected::Values),
        (b"1\x00 2", differs("unlexable-text")),
        (b"\"a\x00b\"", Expected::Values),
        (b"1 \xff 2", error("UnicodeDecodeError")),
        (b"\"\xc3\"", error("UnicodeDecodeError")),
        (b"\xef\xbb\xbf1", differs("lenient-text")),
        // MOM reads files in text mode: each of \r\n and \r is a \n, also in texts.
        (b"\"a\r\nb\"", differs("carriage-returns")),
        (b"# a comment\r1\n2", Expected::Values),
        (b"1\r2", Expected::Values),
    ]
}

#[test]
fn the_documentation_says_how_many_programs_the_corpus_has() -> Result<()> {
    let docs = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/mom.md"))?;
    let fifties = entries()?.len() / 50 * 50;
    assert!(docs.contains(&format!("(`corpus/*.cases`) | more than {fifties} |")), "more than {fifties}");
    Ok(())
}

#[test]
fn bytes_that_editors_and_accidents_leave_are_what_the_table_says() -> Result<()> {
    let mut oracle = Oracle::start()?;
    for (file, expected) in bytes() {
        let case = Case { files: vec![file.to_vec()], input: worlds::plain() };
        let ours = Ours::of(&case);
        let (mom, verdict) = judge(&mut oracle, &case, &ours)?;
        let shown = String::from_utf8_lossy(file);
        assert!(
            right(&expected, &mom, &ours, verdict)?,
            "{shown:?} is not {expected:?}:\n  MOM: {mom}\n  ours: {ours}"
        );
    }
    Ok(())
}

#[test]
fn each_row_of_the_table_of_differences_is_documented_and_has_programs_that_need_it() -> Result<()> {
    let (entries, bytes) = (entries()?, bytes());
    let docs = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/mom.md"))?;
    for row in ROWS {
        assert!(docs.contains(&format!("| `{}` |", row.name)), "docs/mom.md does not name {}", row.name);
        let needed = Expected::Differs(row.name.into());
        let all =
            entries.iter().map(|entry| &entry.expected).chain(bytes.iter().map(|(_, expected)| expected));
        assert!(
            all.into_iter().any(|expected| *expected == needed),
            "no program of the corpus needs {}",
            row.name
        );
    }
    Ok(())
}
