//! What `docs/parameters.md` shows is what the simulator says today; `make pictures` draws it anew.

#![allow(clippy::unwrap_used)] // helpers outside #[test] functions are test code too

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use overcommit_sim::sweep::{ALL, Sweep};
use overcommit_sim::{Orders, scenario, trade};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn policy() -> Value {
    overcommit_crds::file::value(&fs::read(root().join("deploy/samples/enforce.yaml")).unwrap()).unwrap()
}

fn drawn(sweep: &Sweep) -> String {
    let path = root().join("node-agent/sim/scenarios").join(sweep.scenario).with_extension("yaml");
    let scenario = scenario::read(&fs::read(path).unwrap()).unwrap();
    trade(sweep, &sweep.run(&scenario, &policy()).unwrap())
}

#[test]
fn the_committed_pictures_are_what_the_simulator_draws() {
    let pictures = root().join("docs/pictures");
    let drawn = ALL.iter().map(|sweep| (sweep, drawn(sweep)));
    let old: Vec<&str> = drawn
        .filter(|(sweep, drawn)| {
            fs::read_to_string(pictures.join(sweep.name).with_extension("svg")).ok().as_ref() != Some(drawn)
        })
        .map(|(sweep, _)| sweep.name)
        .collect();
    assert!(old.is_empty(), "run make pictures, and tell in docs/parameters.md what {old:?} show now");
    let files = fs::read_dir(pictures).unwrap().map(|entry| entry.unwrap().path());
    let names: BTreeSet<String> =
        files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(names, ALL.iter().map(|sweep| sweep.name.to_owned()).collect());
}

#[test]
fn what_is_drawn_as_the_default_is_what_holds_where_nothing_is_said() {
    let silent = "apiVersion: overcommit.dev/v1alpha1\nkind: OvercommitPolicy\nmetadata: {name: p}\nspec: {mode: Enforce}\n";
    let silent = Orders::read(silent.as_bytes()).unwrap();
    for sweep in ALL {
        let usual = Sweep { beside: None, ..*sweep }.orders(&policy(), sweep.usual).unwrap();
        assert_eq!(usual.policy(), silent.policy(), "{}", sweep.parameter);
        assert!(sweep.values.contains(&sweep.usual), "{}", sweep.parameter);
    }
}

#[test]
fn each_picture_is_shown_and_each_parameter_explained() {
    let docs = fs::read_to_string(root().join("docs/parameters.md")).unwrap();
    for sweep in ALL {
        let (picture, field) = (format!("](pictures/{}.svg)", sweep.name), sweep.field());
        assert!(docs.contains(&picture), "{picture}");
        assert!(docs.contains(&format!("`{field}`")), "{field}");
    }
}
