//! The language stays apart: text of strangers meets nothing but this crate, numbers and a measure of likeness.

use std::process::Command;

#[test]
fn the_language_depends_on_numbers_and_likeness_alone() {
    let words =
        "tree --package overcommit-policy --edges normal --prefix none --format {p} --locked --offline";
    let output = Command::new(env!("CARGO")).args(words.split(' ')).output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let mut packages: Vec<_> = told.lines().filter_map(|line| line.split(' ').next()).collect();
    packages.sort_unstable();
    packages.dedup();
    assert_eq!(packages, ["num-bigint", "num-integer", "num-traits", "overcommit-policy", "strsim"]);
}
