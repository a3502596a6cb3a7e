//! The command line: what it says to bad input (exit 2, before anything is written), and what it writes.

#![allow(clippy::unwrap_used)] // helpers outside #[test] functions are test code too

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const SCENARIO: &str = "shows: \"1 < 2 & so on\"\nlasts: 5m\nhost: {memory: 2Gi}\nguests: [{name: a, count: 2, size: 1Gi, demand: 200Mi}]\n";
const POLICY: &str = "apiVersion: overcommit.dev/v1alpha1\nkind: OvercommitPolicy\nmetadata: {name: p}\nspec: {mode: Enforce}\n";

fn run(folder: &Path, scenario: &str, policy: &str, further: &[&str]) -> Output {
    fs::write(folder.join("short.yaml"), scenario).unwrap();
    fs::write(folder.join("policy.yaml"), policy).unwrap();
    Command::new(env!("CARGO_BIN_EXE_simulate"))
        .current_dir(folder)
        .args(["--scenario", "short.yaml", "--policy", "policy.yaml"])
        .args(further)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn bad_input_is_refused_with_the_file_the_place_and_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    for (scenario, policy, further, told) in [
        (
            SCENARIO.replace("5m", "5 m"),
            POLICY.to_owned(),
            vec![],
            "scenario file short.yaml: lasts: \"5 m\" is no duration",
        ),
        (
            SCENARIO.replace("demand", "swapSpeed: '0', demand"),
            POLICY.to_owned(),
            vec![],
            "guests[0].swapSpeed: must be more than nothing",
        ),
        (
            SCENARIO.replace("2Gi", "2Gi, eviction: 2Gi"),
            POLICY.to_owned(),
            vec![],
            "host.eviction: must be less than host.memory",
        ),
        (
            SCENARIO.to_owned(),
            POLICY.replace("Enforce", "Force"),
            vec![],
            "policy file policy.yaml: spec.mode: Force is not known",
        ),
        (
            SCENARIO.to_owned(),
            POLICY.to_owned(),
            vec!["--svg", "no/where.svg"],
            "no/where.svg cannot be written",
        ),
        (
            SCENARIO.to_owned(),
            POLICY.to_owned(),
            vec!["--json", "./policy.yaml"],
            "policy.yaml is named twice: it would be overwritten",
        ),
        (
            SCENARIO.to_owned(),
            POLICY.to_owned(),
            vec!["--json", "out", "--svg", "out"],
            "out is named twice: it would be overwritten",
        ),
        (
            SCENARIO.replace("lasts", "step: 5s\nlasts"),
            POLICY.replace("Enforce", "Enforce, interval: 5s"),
            vec![],
            "step 5s is not shorter than the policy's interval 5s",
        ),
        (SCENARIO.to_owned(), POLICY.to_owned(), vec!["--scenario", "."], "cannot be used multiple times"),
        (SCENARIO.to_owned(), POLICY.to_owned(), vec!["--seed", "x"], "invalid value 'x' for '--seed <N>'"),
    ] {
        let output = run(folder.path(), &scenario, &policy, &further);
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(told), "{said}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn an_output_that_the_disk_refuses_is_told_apart_from_bad_input_and_nothing_that_was_there_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("out.json"), "before").unwrap();
    let bad = run(folder.path(), SCENARIO, POLICY, &["--json", "out.json", "--svg", "no/where.svg"]);
    assert_eq!(bad.status.code(), Some(2));
    assert_eq!(fs::read_to_string(folder.path().join("out.json")).unwrap(), "before");
    let refused = run(folder.path(), SCENARIO, POLICY, &["--svg", "/dev/full"]);
    let said = text(&refused.stderr);
    assert!(refused.status.code() == Some(1) && said.contains("/dev/full cannot be written"), "{said}");
}

#[test]
fn a_policy_that_does_nothing_for_these_guests_is_simulated_and_doubted() {
    let folder = tempfile::tempdir().unwrap();
    let spec = "spec: {mode: Enforce, nodeSelector: {matchLabels: {a: b}}, limits: {takePerNode: 0%}, reserve: {minimum: 2Gi}, \
                classes: [{name: gold, selector: {matchLabels: {tier: gold}}}]}";
    let done = run(folder.path(), SCENARIO, &POLICY.replace("spec: {mode: Enforce}", spec), &[]);
    let told = text(&done.stderr);
    assert!(done.status.success(), "{told}");
    for doubt in [
        "spec.limits.takePerNode is 0%, so nothing is ever taken",
        "spec.nodeSelector selects nothing here",
        "spec.reserve.minimum keeps all that the node has",
        "2 guests match no class and are left alone: a",
    ] {
        assert!(
            told.contains(&format!("policy file policy.yaml: warning: {doubt}")),
            "no {doubt:?} in {told}"
        );
    }
    let meant = run(folder.path(), SCENARIO, POLICY, &[]);
    assert!(!text(&meant.stderr).contains("warning"), "{}", text(&meant.stderr));
}

#[test]
fn a_folder_is_no_scenario() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_simulate"))
        .args(["--policy", "x", "--scenario"])
        .arg(folder.path())
        .output()
        .unwrap();
    let said = text(&output.stderr);
    assert!(
        output.status.code() == Some(2) && said.contains("is no regular file: write the scenario to one"),
        "{said}"
    );
}

#[test]
fn the_table_the_json_and_the_picture_tell_of_each_guest() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), SCENARIO, POLICY, &["--json", "out.json", "--svg", "out.svg"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    assert!(table.starts_with("short: 1 < 2 & so on\npolicy p, seed 0, 5.0 min\n"), "{table}");
    let json: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.path().join("out.json")).unwrap()).unwrap();
    let picture = text(&fs::read(folder.path().join("out.svg")).unwrap());
    for (number, name) in ["a-0", "a-1"].into_iter().enumerate() {
        assert!(table.contains(&format!("\ndefault/{name} ")), "{table}");
        assert_eq!(json["guests"][number]["name"], format!("default/{name}"));
        assert!(picture.contains(&format!("{name} · 1.0 GiB")));
    }
    assert_eq!(json["lasted"]["secs"], 300);
    let drawn = json["series"]["node"]["budget"].as_array().unwrap().len();
    assert!((300..=600).contains(&drawn), "{drawn} points");
    assert!(picture.starts_with("<svg ") && picture.contains("1 &lt; 2 &amp; so on"));
}

#[test]
fn a_policy_that_carries_a_program_is_simulated_and_the_program_decides() {
    let folder = tempfile::tempdir().unwrap();
    let sample = include_str!("../../../deploy/samples/mom.yaml").replace("mode: Observe", "mode: Enforce");
    let grow_only = sample.replace("balloonEnabled: 1", "balloonEnabled: 0");
    // Less than a fifth of the host is free, and what guests were promised is more than there is.
    let scenario = SCENARIO.replace("demand: 200Mi", "demand: 500Mi");
    let table = |policy: &str| {
        let output = run(folder.path(), &scenario, policy, &[]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let (taken, kept) = (table(&sample), table(&grow_only));
    assert!(!taken.contains(" 0 targets set") && taken.contains(" 0 killed by"), "{taken}");
    assert!(kept.contains(" 0 targets set"), "the adaptive engine would take: {kept}");
}

#[test]
fn a_comparison_overwrites_none_of_what_it_was_given() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("short.yaml"), SCENARIO).unwrap();
    fs::write(folder.path().join("policy.yaml"), POLICY).unwrap();
    for (out, told) in [
        ("./short.yaml", "./short.yaml is named twice: it would be overwritten"),
        ("policy.yaml", "policy.yaml is named twice: it would be overwritten"),
        ("no/where.json", "no/where.json cannot be written"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_compare"))
            .current_dir(folder.path())
            .args(["short.yaml", "--policy", "policy.yaml", "--json", out])
            .output()
            .unwrap();
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(told), "{said}");
        assert!(output.stdout.is_empty());
    }
    assert_eq!(fs::read_to_string(folder.path().join("short.yaml")).unwrap(), SCENARIO);
    assert_eq!(fs::read_to_string(folder.path().join("policy.yaml")).unwrap(), POLICY);
}
