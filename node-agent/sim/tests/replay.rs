//! What was recorded is decided again, bit by bit; what another policy would have decided is told.

#![allow(clippy::unwrap_used)] // helpers outside #[test] functions are test code too

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use overcommit_core::ksm::Held;
use overcommit_record::{Before, Line, Recorder, Tape, Writer};
use overcommit_sim::replay::{NotReplayed, Replayed, replay};
use overcommit_sim::{Orders, Outcome, scenario, simulate_onto};

/// Lines in memory; each stretch of so many is one that can be played alone.
#[derive(Clone, Default)]
struct Lines {
    all: Arc<Mutex<Vec<Vec<u8>>>>,
    stretch: usize,
    since: usize,
}

impl Tape for Lines {
    fn wants_beginning(&mut self) -> Option<Before> {
        let wants = self.since.is_multiple_of(self.stretch);
        let before = if self.since == 0 { Before::Start } else { Before::Line };
        self.since += 1;
        wants.then_some(before)
    }
    fn take(&mut self, line: Vec<u8>, _begins: bool) {
        self.all.lock().unwrap().push(line);
    }
    fn wall(&self) -> Duration {
        Duration::ZERO
    }
}

fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(name).with_extension("yaml")
}

fn enforce(changed: impl Fn(String) -> String) -> Orders {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/samples/enforce.yaml");
    Orders::read(changed(std::fs::read_to_string(path).unwrap()).as_bytes()).unwrap()
}

/// A scenario's outcome, and its lines.
fn recorded(name: &str, stretch: usize) -> (Outcome, Vec<Vec<u8>>) {
    let mut scenario = scenario::read(&std::fs::read(place(name)).unwrap()).unwrap();
    scenario.lasts.0 = scenario.lasts.0.min(Duration::from_mins(20));
    let lines = Lines { stretch, ..Lines::default() };
    let outcome = simulate_onto(Some(Box::new(lines.clone())), name, &scenario, &enforce(|text| text));
    let all = lines.all.lock().unwrap().clone();
    (outcome, all)
}

fn again(lines: &[Vec<u8>], instead: Option<&Orders>) -> Result<Replayed, NotReplayed> {
    replay("recording", instead, |each| {
        for line in lines {
            each(Line::read(line).unwrap());
        }
    })
}

#[test]
fn every_decision_is_made_again_bit_by_bit_whatever_guests_did() {
    for name in
        ["guest-that-lies", "reboot-while-squeezed", "everybody-surges", "page-cache-that-looks-like-need"]
    {
        // Files that end in the middle change nothing: each begins with the whole state.
        for stretch in [usize::MAX, 97] {
            let (simulated, lines) = recorded(name, stretch);
            let replayed = again(&lines, None).unwrap();
            assert_eq!((replayed.differing, &replayed.differences), (0, &Vec::new()), "{name}");
            assert_eq!(replayed.decisions, simulated.node.decisions, "{name}");
            assert_eq!(
                replayed.remarks,
                [format!("recorded by version {}", env!("CARGO_PKG_VERSION"))],
                "{name}"
            );
            let (one, other) = (&simulated.node, &replayed.outcome.node);
            assert_eq!(
                (one.commands, one.undone, one.shortfall),
                (other.commands, other.undone, other.shortfall)
            );
            let sizes = |outcome: &Outcome| outcome.guests.iter().map(|g| g.size).collect::<Vec<_>>();
            assert_eq!(sizes(&simulated).len(), sizes(&replayed.outcome).len());
        }
    }
}

#[test]
fn what_is_held_of_the_knobs_for_merging_and_that_they_are_being_written_is_recorded_in_this_order() {
    let knobs = |run: u64| serde_json::json!({"run": run, "pages_to_scan": 9, "sleep_millisecs": 20, "advisor": "None"});
    let held =
        serde_json::json!({"original": knobs(0), "ours": knobs(1), "before": knobs(0), "yielded": null});
    let held: Held = serde_json::from_value(held).unwrap();
    let lines = Lines { stretch: usize::MAX, ..Lines::default() };
    let mut recorder = Recorder::new(Some(Box::new(lines.clone())));
    recorder.adopt_knobs(held.clone());
    for under_way in [true, true, false] {
        recorder.note_knobs(under_way);
    }
    // At a hand-over, after the last decision: the journal is to have it, and no line.
    recorder.confirm_knobs(&serde_json::from_value(knobs(1)).unwrap());
    assert_ne!(recorder.merging().held(), Some(&held));
    let all = lines.all.lock().unwrap().clone();
    let told: Vec<String> = all
        .iter()
        .filter_map(|line| match Line::read(line).unwrap() {
            Line::Begin(_) => None,
            Line::Knobs(told) => Some((*told == held).to_string()),
            Line::Writing(under_way) => Some(format!("writing {under_way}")),
            other => Some(format!("{other:?}")),
        })
        .collect();
    assert_eq!(told, ["true", "writing true", "writing false"]);
}

#[test]
fn a_reading_that_was_another_shows_where_decisions_differ() {
    let (_, lines) = recorded("everybody-surges", usize::MAX);
    // The host has half of its memory.
    let forged = |line: &Vec<u8>| {
        let mut line: serde_json::Value = serde_json::from_slice(line).unwrap();
        if let Some(total) = line.pointer_mut("/turn/sample/host/memory/total") {
            *total = (total.as_u64().unwrap() / 2).into();
        }
        serde_json::to_vec(&line).unwrap()
    };
    let forged: Vec<Vec<u8>> = lines.iter().map(forged).collect();
    let replayed = again(&forged, None).unwrap();
    assert!(replayed.differing > 0);
    let first = replayed.differences.first().unwrap();
    assert!(first.contains(" s  default/") || first.contains("the same targets"), "{first}");
}

#[test]
fn a_policy_that_keeps_more_would_have_taken_more_and_is_told_guest_by_guest() {
    let (_, lines) = recorded("everybody-surges", usize::MAX);
    let careful = enforce(|text| text.replace("minimum: ", "minimum: 1Gi # "));
    let replayed = again(&lines, Some(&careful)).unwrap();
    assert!(replayed.differing > 0, "{replayed:?}");
    assert!(replayed.differences.iter().any(|told| told.contains("; now to ")), "{:?}", replayed.differences);
    let same = again(&lines, Some(&enforce(|text| text))).unwrap();
    assert_eq!(same.differing, 0, "{:?}", same.differences);
}

#[test]
fn a_policy_without_a_recorded_class_is_refused() {
    let (_, lines) = recorded("everybody-surges", usize::MAX);
    let text = "apiVersion: overcommit.dev/v1alpha1\nkind: OvercommitPolicy\nmetadata: {name: other}\nspec: {mode: Enforce, classes: [{name: strange}]}\n";
    let other = Orders::read(text.as_bytes()).unwrap();
    let error = again(&lines, Some(&other)).unwrap_err().to_string();
    assert!(error.contains("which policy other lacks"), "{error}");
}

#[test]
fn times_that_are_forged_neither_hang_nor_fill_the_memory() {
    let (_, lines) = recorded("reboot-while-squeezed", usize::MAX);
    for clock in ["at", "wall"] {
        let mut turns = 0;
        let forged = |line: &Vec<u8>| {
            let mut line: serde_json::Value = serde_json::from_slice(line).unwrap();
            if let Some(seconds) = line.pointer_mut(&format!("/turn/sample/{clock}/secs")) {
                turns += 1;
                if turns > 1 {
                    *seconds = u64::MAX.into();
                }
            }
            serde_json::to_vec(&line).unwrap()
        };
        let mut forged: Vec<Vec<u8>> = lines.iter().take(40).map(forged).collect();
        if clock == "wall" {
            // Only between two stretches it counts.
            let mut begin: serde_json::Value = serde_json::from_slice(&lines[0]).unwrap();
            begin["begin"]["before"] = "Start".into();
            forged.insert(3, serde_json::to_vec(&begin).unwrap());
            forged.extend(lines.iter().skip(1).take(20).cloned());
        }
        let replayed = again(&forged, None).unwrap();
        assert!(replayed.outcome.series.node.budget.len() < 2000);
        assert!(overcommit_sim::picture(&replayed.outcome).len() < 1 << 20);
    }
}

#[test]
fn what_is_missing_is_told_and_the_rest_is_played() {
    let (_, mut lines) = recorded("reboot-while-squeezed", 500);
    let whole = again(&lines, None).unwrap().decisions;
    // The first beginning, and with it all that rests on it.
    lines.remove(0);
    let rest = again(&lines, None).unwrap();
    assert!(rest.decisions < whole && rest.differing == 0);
    assert!(
        rest.remarks.iter().any(|told| told.contains("no beginning stands before it")),
        "{:?}",
        rest.remarks
    );
    assert!(matches!(again(&[], None), Err(NotReplayed::Empty { .. })));
}

#[test]
fn a_recording_of_another_format_is_told_as_one_and_not_by_what_follows_from_that() {
    let (_, mut lines) = recorded("reboot-while-squeezed", usize::MAX);
    let begin = String::from_utf8(lines.remove(0)).unwrap();
    lines.insert(0, begin.replacen("\"format\":", "\"format\":9", 1).into_bytes());
    let told = again(&lines, None).unwrap_err().to_string();
    assert!(told.contains("use the build that recorded it"), "{told}");
}

/// How large the state is, each so many decisions.
#[derive(Clone, Default)]
struct Sizes {
    all: Arc<Mutex<Vec<usize>>>,
    since: usize,
}

impl Tape for Sizes {
    fn wants_beginning(&mut self) -> Option<Before> {
        self.since += 1;
        self.since.is_multiple_of(1000).then_some(Before::Line)
    }
    fn take(&mut self, line: Vec<u8>, begins: bool) {
        if begins {
            self.all.lock().unwrap().push(line.len());
        }
    }
    fn wall(&self) -> Duration {
        Duration::ZERO
    }
}

#[test]
fn what_is_known_of_110_guests_does_not_grow_once_the_windows_are_full() {
    let mut scenario = scenario::read(&std::fs::read(place("night-and-day-110-guests")).unwrap()).unwrap();
    scenario.lasts.0 = Duration::from_hours(2);
    let sizes = Sizes::default();
    simulate_onto(Some(Box::new(sizes.clone())), "hours", &scenario, &enforce(|text| text));
    let sizes = sizes.all.lock().unwrap();
    let most = |part: &[usize]| *part.iter().max().unwrap();
    // The longest window is of an hour: 720 intervals of 5 s (docs/ledger.md).
    let (third, last) = (&sizes[sizes.len() / 2..sizes.len() * 3 / 4], &sizes[sizes.len() * 3 / 4..]);
    assert!(sizes.len() >= 4 && most(last) <= most(third) * 101 / 100, "{sizes:?}");
}

fn run(program: &str, args: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = Command::new(program).args(args).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap())
}

#[test]
fn the_commands_record_replay_draw_and_refuse() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/samples/enforce.yaml");
    let (policy, scenario) = (policy.to_str().unwrap(), place("reboot-while-squeezed"));
    let (replay, recording) = (env!("CARGO_BIN_EXE_replay"), at("recording"));
    let args = ["--scenario", scenario.to_str().unwrap(), "--policy", policy, "--record", &recording];
    assert_eq!(run(env!("CARGO_BIN_EXE_simulate"), &args).0, Some(0));

    let (code, said) = run(replay, &[&recording, "--svg", &at("out.svg"), "--json", &at("out.json")]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("decisions, each made again bit by bit"), "{said}");
    assert!(said.contains("policy as recorded, ") && !said.contains("killed by the node"), "{said}");
    assert!(std::fs::read_to_string(at("out.svg")).unwrap().starts_with("<svg "));
    assert_eq!(run(replay, &[&recording, "--policy", policy]).0, Some(0));

    // A hard link is the same file by another name.
    let same = at("same");
    std::fs::hard_link(&recording, &same).unwrap();
    for (args, told) in [
        (vec![&recording[..], "--json", &same], "is named twice"),
        (
            vec![&recording, &same],
            "same is named twice, and each of its decisions would count twice: name it once",
        ),
        (vec![&recording, &recording], "is named twice, and each of its decisions"),
        (vec![policy], "it is no recording: name a file that `overcommit-agent run --record FILE` wrote"),
        (vec!["/no/where"], "recording /no/where: No such file"),
        (vec![&recording, "--policy", &recording], "policy file"),
        (vec![&recording, "--svg", &recording], "is named twice"),
        (vec![], "required"),
    ] {
        let (code, said) = run(replay, &args);
        assert!(code == Some(2) && said.contains(told), "{said}");
    }
    std::fs::remove_file(&same).unwrap();
    assert_eq!(run(replay, &[&recording, "--svg", "/dev/full"]).0, Some(1));

    // What a terminal would obey.
    let forged = at("forged");
    let mut writer = Writer::new(Path::new(&forged));
    overcommit_record::read(Path::new(&recording)).unwrap().lines(|line| {
        let begins = matches!(line, Line::Begin(_));
        let text = String::from_utf8(line.written().unwrap()).unwrap();
        let escape = r"\u001b]0;x\u0007";
        writer.write(text.replace(env!("CARGO_PKG_VERSION"), escape).as_bytes(), begins).unwrap();
    });
    writer.close().unwrap();
    let (code, said) = run(replay, &[&forged]);
    assert!(code == Some(0) && said.contains("recorded by version ?]0;x?"), "{said}");

    // Damaged: it says so, and is no success.
    let mut bytes = std::fs::read(&recording).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    std::fs::write(&forged, &bytes).unwrap();
    let (code, said) = run(replay, &[&forged]);
    assert!(code == Some(1) && said.contains("1 parts are damaged"), "{said}");

    let (code, said) = run(
        env!("CARGO_BIN_EXE_simulate"),
        &["--scenario", scenario.to_str().unwrap(), "--policy", policy, "--record", policy],
    );
    assert!(code == Some(2) && said.contains("another file is there"), "{said}");
}
