//! `policy check` and `policy eval`: programs in MOM's language, from files, without an agent. What they print is a contract:
//! a line begins with the place, `FILE:LINE:COLUMN`, so that editors find it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use overcommit_policy::exchange::{self, MAX_INPUT};
use overcommit_policy::{Limits, MAX_BYTES, Program, Severity, Source, World, evaluate};

use crate::args::{Eval, Format, Programs};
use crate::run::Failure;

/// A file's name as it was given, and what is in it.
struct Read {
    name: String,
    bytes: Vec<u8>,
}

/// Prints what is found in a program; fails if something of it is an error.
pub(crate) fn check(programs: &Programs) -> Result<(), Failure> {
    let files = read_all(&programs.files)?;
    let findings = overcommit_policy::check(&sources(&files));
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

fn sources(files: &[Read]) -> Vec<Source<'_>> {
    files.iter().map(|file| Source { name: &file.name, bytes: &file.bytes }).collect()
}

fn read_all(paths: &[PathBuf]) -> Result<Vec<Read>, Failure> {
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Result<Read, Failure> {
    // One byte more than a program may have, so that a longer one is seen to be longer, however long it is.
    let bytes = bounded(path, MAX_BYTES.saturating_add(1)).map_err(Failure::bad_input)?;
    Ok(Read { name: path.display().to_string(), bytes })
}

fn bounded(path: &Path, most: usize) -> Result<Vec<u8>> {
    if path.is_dir() {
        let dir = path.display();
        bail!("{dir}: a directory; name its files, in the order in which they run, such as {dir}/*.policy");
    }
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let most = u64::try_from(most).unwrap_or(u64::MAX);
    file.take(most).read_to_end(&mut bytes).with_context(|| path.display().to_string())?;
    Ok(bytes)
}

fn world(path: &Path) -> Result<World, Failure> {
    let bytes = bounded(path, MAX_INPUT.saturating_add(1)).map_err(Failure::bad_input)?;
    exchange::read(&bytes).map_err(|why| Failure::bad_input(anyhow!("{}: {why}", path.display())))
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

    #[test]
    fn no_text_of_a_program_begins_a_line_of_its_own_or_speaks_to_the_terminal() {
        let forged = "p:1:1: unknown \u{1b}[31mred\nx:1:1: error: \u{9b}\u{202e}é";
        assert_eq!(plain(forged), r"p:1:1: unknown \u{1b}[31mred\nx:1:1: error: \u{9b}\u{202e}é");
    }
}
