//! Evaluating small programs.

use overcommit_policy::{Evaluation, Limits, Program, Source, Trouble, World, check, evaluate, exchange};

/// A host and two guests: `one` with two samples, `two` without any.
pub(crate) const WORLD: &str = r#"{
    "host": {
        "properties": {"name": "node", "interval": 10},
        "history": [
            {"mem_free": 100, "mem_available": 1000, "swap_usage": null},
            {"mem_free": 201, "mem_available": 1000, "swap_usage": null}
        ],
        "fields": ["swap_total"]
    },
    "guests": [
        {
            "name": "one",
            "properties": {"uuid": "u1", "name": "one", "pid": 1},
            "history": [{"balloon_cur": 1000, "mem_unused": null}, {"balloon_cur": 1001, "mem_unused": 7}],
            "controls": {"balloon_target": 900},
            "variables": {"seen": 5}
        },
        {"name": "two", "properties": {"uuid": "u2", "name": "two", "pid": 2}, "history": [], "fields": ["balloon_cur"]}
    ]
}"#;

pub(crate) fn program(text: &str) -> Result<Program, Trouble> {
    Program::parse(&[Source { name: "p", bytes: text.as_bytes() }])
}

/// What a program comes to, and the world after it.
pub(crate) fn run_in(text: &str, world: &str, limits: &Limits) -> Result<(Evaluation, World), Trouble> {
    let mut world = exchange::read(world.as_bytes()).unwrap();
    let evaluation = evaluate(&program(text)?, &mut world, limits)?;
    Ok((evaluation, world))
}

/// All of it as it is printed.
pub(crate) fn printed_in(text: &str, world: &str) -> String {
    match run_in(text, world, &Limits::default()) {
        Ok((evaluation, world)) => exchange::write(&evaluation, &world),
        Err(trouble) => trouble.to_string(),
    }
}

/// The values at the top as they are printed, or the error.
pub(crate) fn values(text: &str) -> String {
    values_in(text, WORLD)
}

pub(crate) fn values_in(text: &str, world: &str) -> String {
    match run_in(text, world, &Limits::default()) {
        Ok((evaluation, world)) => {
            let only = Evaluation { values: evaluation.values, ..Evaluation::default() };
            let printed = exchange::write(&only, &world);
            let end = printed.find(",\"host\":").unwrap();
            printed["{\"values\":".len()..end].to_owned()
        }
        Err(trouble) => trouble.to_string(),
    }
}

/// All findings, a line each.
pub(crate) fn findings(text: &str) -> Vec<String> {
    check(&[Source { name: "p", bytes: text.as_bytes() }]).iter().map(ToString::to_string).collect()
}

/// Each program of a table comes to what stands beside it; what stands there may be the beginning of an error.
pub(crate) fn table(rows: &[(&str, &str)]) {
    for (text, expected) in rows {
        let found = values(text);
        let matches =
            if expected.starts_with("p:") { found.starts_with(expected) } else { found == *expected };
        assert!(matches, "{text}\n came to {found}\n not to  {expected}");
    }
}
