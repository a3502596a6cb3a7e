//! `policy check` and `policy eval`: programs in MOM's language, from files, without an agent. What they print is a contract:
//! a line begins with the place, `FILE:LINE:COLUMN`, so that editors find it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use overcommit_crds::policy::PROGRAM_MAX;
use overcommit_policy::exchange::{self, MAX_INPUT};
use overcommit_policy::{Finding, Limits, MAX_BYTES, Place, Program, Severity, Source, World, evaluate};

use crate::args::{Eval, Format, Programs};
use crate::run::Failure;

/// Bytes of a file that may be no part of the program: UTF-8's byte order mark.
const MARK: usize = 3;

/// A file's name as it was given, and what is in it.
struct Read {
    name: String,
    bytes: Vec<u8>,
}

/// Prints what is found in a program; fails if something of it is an error.
pub(crate) fn check(programs: &Programs) -> Result<(), Failure> {
    let files = read_all(&programs.files)?;
    let mut findings = overcommit_policy::check(&sources(&files));
    findings.extend(too_long(&files));
    let lines: Vec<String> = findings.iter().map(|finding| plain(&finding.to_string()) + "\n").collect();
    print(&lines.concat())?;
    if findings.iter().any(|finding| finding.severity == Severity::Error) {
        Err(Failure::told(1))
    } else {
        Ok(())
    }
}

/// Evaluates a program once and prints what it comes to.
pub(crate) fn eval(args: &Eval) -> Result<(), Failure> {
    let files = read_all(&args.programs.files)?;
    let mut world = args.input.as_deref().map_or_else(|| Ok(World::default()), world)?;
    let evaluation = Program::parse(&sources(&files))
        .and_then(|program| evaluate(&program, &mut world, &Limits::default()));
    // Also of a program that fails: what it logged before says why.
    for (place, line) in &world.log {
        tell(&format!("{place}: debug: {line}"));
    }
    let evaluation = evaluation.map_err(|trouble| refuse(&trouble.to_string()))?;
    match args.output {
        Format::Json => print(&format!("{}\n", exchange::write(&evaluation, &world))),
    }
}

/// A program that no policy can have, at the file with which it becomes too long.
fn too_long(files: &[Read]) -> Option<Finding> {
    let bytes: usize = files.iter().map(|file| file.bytes.len()).sum();
    // What no program may have is an error already, and not all of it was read.
    let more = bytes.checked_sub(PROGRAM_MAX).filter(|more| *more > 0 && bytes <= MAX_BYTES)?;
    let mut room = PROGRAM_MAX;
    let file = files.iter().find(|file| match room.checked_sub(file.bytes.len()) {
        Some(left) => {
            room = left;
            false
        }
        None => true,
    })?;
    Some(Finding {
        place: Place { file: file.name.as_str().into(), line: 1, column: 1 },
        severity: Severity::Warning,
        unsupported: None,
        message: format!(
            "with this file the program has {more} bytes more than the {PROGRAM_MAX} that a policy takes: the operator refuses it"
        ),
    })
}

fn sources(files: &[Read]) -> Vec<Source<'_>> {
    files.iter().map(|file| Source { name: &file.name, bytes: &file.bytes }).collect()
}

/// Reads files until they are more than a program may have: what follows changes nothing of that it is refused.
fn read_all(paths: &[PathBuf]) -> Result<Vec<Read>, Failure> {
    let (mut files, mut room) = (Vec::new(), MAX_BYTES);
    for path in paths {
        if path.is_dir() {
            let dir = name(path);
            return Err(Failure::bad_input(anyhow!(
                "{dir}: a directory; name its files, in the order in which they run, such as {dir}/*.policy"
            )));
        }
        let most = room.saturating_add(MARK);
        // One byte more, so that a longer one is seen to be longer, however long it is.
        let bytes = bounded(path, most.saturating_add(1)).map_err(Failure::bad_input)?;
        let full = bytes.len() > most;
        room = room.saturating_sub(bytes.len().saturating_sub(MARK));
        files.push(Read { name: path.display().to_string(), bytes });
        if full {
            break;
        }
    }
    Ok(files)
}

fn bounded(path: &Path, most: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(|| name(path))?;
    let most = u64::try_from(most).unwrap_or(u64::MAX);
    file.take(most).read_to_end(&mut bytes).with_context(|| name(path))?;
    Ok(bytes)
}

/// A file's name for a message.
fn name(path: &Path) -> String {
    plain(&path.display().to_string())
}

fn world(path: &Path) -> Result<World, Failure> {
    if path.is_dir() {
        let dir = name(path);
        return Err(Failure::bad_input(anyhow!(
            "{dir}: a directory; --input wants a file in JSON, such as overcommit-agent policy input prints it"
        )));
    }
    let bytes = bounded(path, MAX_INPUT.saturating_add(1)).map_err(Failure::bad_input)?;
    exchange::read(&bytes).map_err(|why| Failure::bad_input(anyhow!("{}: {}", name(path), plain(&why))))
}

/// The place comes first in the line.
fn refuse(line: &str) -> Failure {
    tell(line);
    Failure::told(1)
}

/// One line whatever stands in it: texts of programs and names of files reach terminals and editors this way.
fn plain(line: &str) -> String {
    let hides = |c: char| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut out = String::with_capacity(line.len());
    for c in line.chars() {
        if hides(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// Where nobody can read it, the exit code says it.
fn tell(line: &str) {
    drop(writeln!(std::io::stderr(), "{}", plain(line)));
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|e| Failure::failed(e.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, length: usize) -> Read {
        Read { name: name.to_owned(), bytes: vec![b' '; length] }
    }

    #[test]
    fn files_are_read_until_they_are_more_than_a_program_may_have() {
        let dir = tempfile::tempdir().unwrap();
        let written = |name: &str, content: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        let large = written("large", &vec![b' '; MAX_BYTES * 3 / 4]);
        let Ok(files) = read_all(&vec![large.clone(); 50]) else { panic!("files that can be read") };
        let read: usize = files.iter().map(|file| file.bytes.len()).sum();
        assert!(read > MAX_BYTES && read < MAX_BYTES + 100, "{read}");
        assert!(overcommit_policy::check(&sources(&files))[0].message.contains("more than"));
        // What is left out counts as nothing, so that all of what fits is read.
        let marks = written("marks", b"\xef\xbb\xbf");
        let full = written("full", &[b"\xef\xbb\xbf1".as_slice(), &vec![b' '; MAX_BYTES - 50]].concat());
        let paths: Vec<_> = std::iter::repeat_n(marks, 40).chain([full]).collect();
        let Ok(files) = read_all(&paths) else { panic!("files that can be read") };
        assert_eq!(overcommit_policy::check(&sources(&files)), []);
    }

    #[test]
    fn a_directory_is_answered_with_what_is_wanted_in_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let said = |failure: Option<Failure>| format!("{:?}", failure.unwrap());
        let program = said(read_all(&[dir.path().to_owned()]).err());
        assert!(program.contains("name its files"), "{program}");
        let input = said(world(dir.path()).err());
        assert!(input.contains("--input wants a file in JSON"), "{input}");
    }

    #[test]
    fn a_program_that_no_policy_takes_is_told_at_the_file_that_makes_it_so() {
        let half = PROGRAM_MAX / 2;
        assert_eq!(too_long(&[file("a", half), file("b", half)]), None);
        let found = too_long(&[file("a", half), file("b", half + 3), file("c", 0)]).unwrap();
        assert!(found.to_string().starts_with("b:1:1: warning: with this file the program has 3 bytes more"));
    }

    #[test]
    fn no_name_of_a_file_begins_a_line_of_its_own_or_speaks_to_the_terminal() {
        let missing = format!("{:#}", bounded(Path::new("we\nird\u{1b}[31m.rules"), 1).unwrap_err());
        assert!(missing.starts_with(r"we\nird\u{1b}[31m.rules: "), "{missing}");
    }

    #[test]
    fn no_text_of_a_program_begins_a_line_of_its_own_or_speaks_to_the_terminal() {
        let forged = "p:1:1: unknown \u{1b}[31mred\nx:1:1: error: \u{9b}\u{202e}é";
        assert_eq!(plain(forged), r"p:1:1: unknown \u{1b}[31mred\nx:1:1: error: \u{9b}\u{202e}é");
    }
}
