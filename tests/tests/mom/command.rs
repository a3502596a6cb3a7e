//! The same by the command line: `overcommit-agent policy eval` prints what the evaluator says in this process, and ends with
//! the exit code that says how it went.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use overcommit_tests::agent::Agent;
use overcommit_tests::mom::{Case, Told};

use crate::corpus::entries;
use crate::generate::Generated;
use crate::ours::Ours;

/// How many programs by chance, beside the corpus.
const GENERATED: u64 = 150;

fn cases() -> Result<Vec<Case>> {
    let corpus = entries()?.into_iter().map(|entry| entry.case());
    Ok(corpus.chain((0..GENERATED).map(|seed| Generated::of(seed).case())).collect())
}

/// Files by the names that [`Ours::of`] gives them, and the input.
fn write(case: &Case, folder: &Path) -> Result<Vec<String>> {
    fs::write(folder.join("in.json"), case.input.to_string())?;
    let mut names = Vec::new();
    for (index, file) in case.files.iter().enumerate() {
        names.push(Ours::name(index));
        fs::write(folder.join(Ours::name(index)), file)?;
    }
    Ok(names)
}

#[test]
fn the_command_line_prints_what_the_evaluator_says() -> Result<()> {
    let program = Agent::program()?;
    let folder = tempfile::tempdir()?;
    let mut codes = [0, 0];
    for case in cases()? {
        let names = write(&case, folder.path())?;
        let mut eval = Command::new(&program);
        eval.current_dir(folder.path())
            .args(["policy", "eval", "--input", "in.json", "--output", "json"])
            .args(names);
        let done = eval.output().with_context(|| program.display().to_string())?;
        let (out, err) = (String::from_utf8(done.stdout)?, String::from_utf8(done.stderr)?);
        let ours = Ours::of(&case);
        let code = match &ours {
            Ours::Whole(told) => {
                ensure!(*told == out.parse::<Told>().context(out.clone())?, "{case:?}: {out} is not {told}");
                0
            }
            Ours::NoProgram(message) | Ours::Failed(message) => {
                ensure!(err.lines().any(|line| line == message), "{case:?}: {err:?} does not say {message}");
                ensure!(out.is_empty(), "{case:?}: {out}");
                1
            }
        };
        ensure!(
            done.status.code() == Some(code),
            "{case:?}: exit code {:?} is not {code}: {err}",
            done.status.code()
        );
        codes[usize::try_from(code)?] += 1;
    }
    assert!(codes.iter().all(|count| *count > 50), "exit codes 0 and 1: {codes:?}");
    Ok(())
}
