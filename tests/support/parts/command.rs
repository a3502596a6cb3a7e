//! Runs a command to its end; an error shows the command and the last lines that it wrote.

use anyhow::{Context, Result, bail};
use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// How many of a failed command's last lines an error shows.
const LAST_LINES: usize = 25;

/// Runs `command`, appending its output to the file `log`.
///
/// # Errors
/// The command cannot be started, or ended badly: with the command line and the end of its output.
pub fn run(command: &mut Command, log: &Path) -> Result<()> {
    let file = OpenOptions::new().create(true).append(true).open(log);
    let file = file.with_context(|| log.display().to_string())?;
    let before = file.metadata().map_or(0, |meta| meta.len());
    let status = command
        .stdin(Stdio::null())
        .stdout(file.try_clone().with_context(|| log.display().to_string())?)
        .stderr(file)
        .status()
        .with_context(|| format!("cannot start {}", line_of(command)))?;
    if status.success() {
        return Ok(());
    }
    let text = std::fs::read(log).unwrap_or_default();
    let own = text.get(usize::try_from(before)?..).unwrap_or_default();
    bail!("{} ended with {status}; {} ends with:\n{}", line_of(command), log.display(), last_lines(own));
}

/// Runs `command` and returns what it wrote to standard output.
///
/// # Errors
/// As [`run`], with what it wrote to standard error.
pub fn output(command: &mut Command) -> Result<String> {
    let done = finished(command)?;
    if !done.status.success() {
        bail!("{} ended with {}:\n{}", line_of(command), done.status, last_lines(&both(&done)));
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

fn finished(command: &mut Command) -> Result<Output> {
    command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {}", line_of(command)))
}

fn both(done: &Output) -> Vec<u8> {
    [done.stdout.as_slice(), done.stderr.as_slice()].concat()
}

/// The last lines of a command's output, as an error shows them.
pub fn last_lines(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default().join("\n")
}

fn line_of(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
