//! Programs in MOM's language: text of whoever may write a policy.

use overcommit_policy::exchange;
use overcommit_policy::{Limits, Program, Severity, Source, check, evaluate};

/// A host and two guests, one of them without samples.
const WORLD: &[u8] = br#"{"host": {"properties": {"interval": 10}, "history": [{"mem_available": 1000, "mem_free": 100,
"ksm_pages_to_scan": 64, "ksm_shareable": 500}], "fields": ["swap_total"]}, "guests": [{"name": "a", "properties": {"name": "a"},
"history": [{"balloon_cur": 500, "balloon_max": 700, "balloon_min": 100, "mem_unused": 200}]},
{"name": "b", "fields": ["balloon_cur"], "variables": {"x": "y"}}]}"#;

/// What one input may cost: a hundredth of what a policy may.
fn limits() -> Limits {
    Limits { steps: 50_000, memory: 1 << 20, ..Limits::default() }
}

/// A program is refused at a place in it, or ends within its budget with as much as the budget allows; the same again is the same.
pub(crate) fn program(bytes: &[u8]) {
    let (first, second) = bytes.split_at(bytes.len() / 2);
    // Whole, and cut in two: files are joined by newlines.
    for sources in [
        vec![Source { name: "whole", bytes }],
        vec![Source { name: "first", bytes: first }, Source { name: "second", bytes: second }],
    ] {
        let findings = check(&sources);
        let in_place = |place: &overcommit_policy::Place| {
            sources.iter().any(|source| source.name == &*place.file) && place.line >= 1 && place.column >= 1
        };
        assert!(findings.iter().all(|finding| in_place(&finding.place) && finding.message.len() < 1024));
        assert!(
            findings.is_sorted_by_key(|finding| sources.iter().position(|s| s.name == &*finding.place.file))
        );
        match Program::parse(&sources) {
            Err(trouble) => {
                assert!(matches!(&findings[..], [only] if only.place == trouble.place
                    && only.severity == Severity::Error && only.message == trouble.message));
            }
            Ok(program) => assert_eq!(outcome(&program, &in_place), outcome(&program, &in_place)),
        }
    }
}

fn outcome(program: &Program, in_place: &dyn Fn(&overcommit_policy::Place) -> bool) -> String {
    let mut world = exchange::read(WORLD).expect("a world");
    match evaluate(program, &mut world, &limits()) {
        Ok(evaluation) => {
            assert!(evaluation.errors.iter().all(|error| in_place(&error.trouble.place)));
            for error in &evaluation.errors {
                let guest = world.guests.iter().find(|guest| guest.name == error.guest).expect("a guest");
                assert!(guest.controls.is_empty(), "a guest that failed is told nothing");
            }
            let printed = exchange::write(&evaluation, &world);
            // What one byte of a budget is printed as: at most six (\u0000), and the frame.
            assert!(printed.len() < 8 << 20, "{}", printed.len());
            serde_json::from_str::<serde_json::Value>(&printed).expect("JSON");
            printed
        }
        Err(trouble) => {
            assert!(in_place(&trouble.place) && !trouble.message.is_empty() && trouble.message.len() < 1024);
            trouble.message
        }
    }
}

/// A world is refused in a few words, or evaluated over.
pub(crate) fn world(bytes: &[u8]) {
    match exchange::read(bytes) {
        Err(why) => assert!(!why.is_empty() && why.len() < 4096 + 2 * bytes.len()),
        Ok(mut world) => {
            let text = br#"(with Guests g {(g.Stat "a") (g.StatAvg "a") (g.GetControl "c") (g.SetVar "v" g.a)}) Host.a"#;
            let program = Program::parse(&[Source { name: "p", bytes: text }]).expect("a program");
            if let Ok(evaluation) = evaluate(&program, &mut world, &limits()) {
                let printed = exchange::write(&evaluation, &world);
                serde_json::from_str::<serde::de::IgnoredAny>(&printed).expect("JSON");
            }
        }
    }
}
