//! `policy check` refuses no program that means something: what people's policies do under MOM today must not be an error
//! tomorrow.

use anyhow::Result;
use overcommit_policy::{Severity, Source, check};
use overcommit_tests::mom::Case;

use crate::corpus::entries;
use crate::generate::Generated;
use crate::ours::Ours;

/// How many programs by chance, beside the corpus.
const GENERATED: u64 = 8_000;
/// Which fields collectors have is no matter of the language, and those of the cases are made up; a function that nobody calls
/// may have a variable that no caller has.
const MADE_UP: [&str; 2] = ["field", "caller-s-"];
/// How many wrong refusals a failing run shows.
const SHOWN: usize = 20;

/// Errors that are found in a program that comes to values, without an error of a guest.
fn refused(case: &Case) -> Option<String> {
    let ours = Ours::of(case);
    if ours.error().is_some() || !ours.guest_errors().is_empty() {
        return None;
    }
    let sources: Vec<_> = case.files.iter().map(|bytes| Source { name: "policy", bytes }).collect();
    let error = check(&sources).into_iter().find(|finding| {
        finding.severity == Severity::Error && !MADE_UP.iter().any(|word| finding.message.contains(word))
    })?;
    let files: Vec<_> = case.files.iter().map(|file| String::from_utf8_lossy(file)).collect();
    Some(format!("{error}\n  {}", files.join("\n---\n")))
}

#[test]
fn no_program_that_comes_to_values_is_refused() -> Result<()> {
    // Some programs of the corpus show that a branch that is not taken may have anything in it; check refuses these.
    let whole = |case: &Case| !String::from_utf8_lossy(&case.files.concat()).contains("undefined-");
    let corpus = entries()?.into_iter().map(|entry| entry.case()).filter(whole);
    let generated = (0..GENERATED).map(Generated::of).filter(|generated| generated.right);
    let refused: Vec<_> =
        corpus.chain(generated.map(|generated| generated.case())).filter_map(|case| refused(&case)).collect();
    let shown: Vec<_> = refused.iter().take(SHOWN).map(String::as_str).collect();
    assert!(refused.is_empty(), "{} programs are refused:\n{}", refused.len(), shown.join("\n"));
    Ok(())
}
