//! Recordings of agents on real guests, decided again: what an incident becomes.
//!
//! What was read and what became of commands stays as it was; what is decided there may change with the engine. So two things are
//! asked of each: what must hold whatever the engine, and that each move is the one in the file beside the recording. `make
//! fixtures` writes that file anew, and its difference shows in which real situations another move would be made now.

#![allow(clippy::unwrap_used)] // helpers outside #[test] functions are test code too

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use overcommit_core::plan::Move;
use overcommit_core::step::State;
use overcommit_record::{Line, Made, Played, Player};
use overcommit_sim::replay::replay;
use serde_json::Value;

/// Recorded by `tests/tests/model`: agents without Kubernetes, and guests of QEMU 7.2 under emulation.
const RECORDINGS: [&str; 2] = ["squeezed-then-relieved", "squeezed-and-grows"];
/// Set by `make fixtures`.
const WRITE: &str = "OVERCOMMIT_WRITE_DECISIONS";

fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings").join(name)
}

/// A recording from the start of its agent, which knew nothing then, whatever this build calls that.
fn lines(name: &str) -> Vec<Value> {
    let bytes = std::fs::read(place(name)).unwrap();
    let mut text = String::new();
    MultiGzDecoder::new(bytes.as_slice()).read_to_string(&mut text).unwrap();
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let begins: Vec<&mut Value> = lines.iter_mut().filter_map(|line| line.get_mut("begin")).collect();
    let [begin] = begins.try_into().unwrap();
    assert_eq!(begin["before"], "Start");
    begin["state"] = serde_json::to_value(State::default()).unwrap();
    lines
}

fn line(value: &Value) -> Line<'static> {
    // By its text: what is borrowed of a value could not be kept.
    Line::read(value.to_string().as_bytes()).unwrap()
}

fn decided(lines: &[Value]) -> Vec<Made> {
    let mut player = Player::default();
    let play = |value| match player.play(line(value)).unwrap() {
        Played::Decided(made) => Some(*made),
        Played::Began { .. } | Played::Changed => None,
    };
    lines.iter().filter_map(play).collect()
}

fn told(made: &[Made]) -> String {
    let agree = made.iter().filter(|made| made.agrees).count();
    let mut text = format!("{} decisions, {agree} of them bit by bit as they were recorded\n", made.len());
    let first = made.first().map(|made| made.sample.at).unwrap_or_default();
    for made in made {
        for Move { name, from, to, reason, .. } in made.decision.plan.moves() {
            let at = made.sample.at.since(first).as_secs_f64();
            writeln!(text, "{at:>7.1} s  {name}: {from} to {to}: {reason}").unwrap();
        }
    }
    text
}

#[test]
fn in_recorded_situations_the_same_moves_are_made_as_are_written_down() {
    for name in RECORDINGS {
        let told = told(&decided(&lines(name)));
        let path = place(name).with_extension("decisions");
        if std::env::var_os(WRITE).is_some() {
            std::fs::write(&path, &told).unwrap();
        }
        let known = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            told == known,
            "{name}: where the engine was changed on purpose, `make fixtures` writes down what it decides now:\n{told}"
        );
    }
}

#[test]
fn whatever_the_engine_no_recorded_guest_is_taken_below_its_floor_nor_touched_that_is_left_out() {
    for name in RECORDINGS {
        let made = decided(&lines(name));
        let takes = made.iter().flat_map(|made| made.decision.plan.moves()).filter(|step| step.takes());
        assert!(takes.count() > 0, "{name}");
        for made in &made {
            for step in made.decision.plan.moves() {
                let view = made.decision.guests.iter().find(|view| view.id == step.id).unwrap();
                assert!(step.to <= view.full && !view.exempt, "{name}: {step:?}");
                assert!(
                    !step.takes() || step.to >= view.floor || made.decision.emergency,
                    "{name}: {view:?}"
                );
                assert!(!step.takes() || view.statistics.is_some(), "{name}: {view:?}");
            }
        }
    }
}

#[test]
fn a_recorded_run_is_decided_the_same_each_time_and_told_whole() {
    for name in RECORDINGS {
        let lines = lines(name);
        let turns = lines.iter().filter(|line| line.get("turn").is_some()).count();
        assert_eq!(decided(&lines).len(), turns, "{name}");
        let again = || replay(name, None, |each| lines.iter().for_each(|value| each(line(value)))).unwrap();
        let (first, second) = (again(), again());
        assert_eq!((&first.outcome, &first.differences), (&second.outcome, &second.differences), "{name}");
        assert_eq!(first.decisions, u64::try_from(turns).unwrap(), "{name}");
    }
}
