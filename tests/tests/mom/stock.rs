//! Stock policies over a grid of hosts and guests: MOM's own, read from its package, on both evaluators; ours on both; and
//! ours against MOM's, to the kilobyte.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use overcommit_tests::mom::{Answer, Case, Oracle, Told};
use overcommit_tests::parts::mom_rules;
use serde_json::{Value, json};

use crate::differences::{Verdict, compare};
use crate::ours::Ours;

/// Memory of the host that guests are ballooned on, in kB.
const HOST: u64 = 32 << 20;
/// What part of it is free, in parts of ten thousand: around the thresholds of the policies, on them, and far away.
const FREE: [u64; 15] = [0, 100, 499, 500, 501, 1000, 1500, 1999, 2000, 2001, 2500, 4999, 5000, 9000, 10_000];
/// Memory of guests, in kB, and what part of it they have, at least, and unused; in parts of ten thousand.
const MOST: [u64; 3] = [262_144, 1_048_576, 4_194_301];
const CURRENT: [u64; 6] = [2500, 5000, 9001, 9970, 9980, 10_000];
const LEAST: [u64; 3] = [0, 2500, 6000];
const UNUSED: [u64; 6] = [0, 100, 1500, 2000, 2100, 8000];

const PART: u64 = 10_000;

/// `value` in each sample, less the further back, so that means are no samples.
fn history(samples: u64, sample: impl Fn(u64) -> Value) -> Vec<Value> {
    (0..samples).rev().map(sample).collect()
}

fn guests() -> Vec<Value> {
    let mut guests = Vec::new();
    for (most, current) in MOST.iter().flat_map(|most| CURRENT.iter().map(move |current| (*most, *current))) {
        for (least, unused) in
            LEAST.iter().flat_map(|least| UNUSED.iter().map(move |unused| (*least, *unused)))
        {
            let current = most * current / PART;
            let samples = history(1 + u64::try_from(guests.len()).unwrap_or(0) % 12, |back| {
                json!({
                    "balloon_cur": current - back * 7, "balloon_max": most, "balloon_min": most * least / PART,
                    "mem_unused": (current * unused / PART).saturating_sub(back * 13),
                    "vcpu_user_limit": unused / 20, "vcpu_count": 1 + most % 5,
                })
            });
            let name = format!("g{}", guests.len());
            guests.push(json!({"name": name, "properties": {"name": name, "uuid": name, "pid": 1}, "history": samples}));
        }
    }
    // Without statistics, as the optional collectors have it.
    let mute =
        json!({"balloon_cur": 500_000, "balloon_max": 1_000_000, "balloon_min": 600_000, "mem_unused": null});
    guests.push(json!({"name": "mute", "properties": {"name": "mute"}, "history": [mute],
                       "fields": ["vcpu_user_limit", "vcpu_count"]}));
    guests
}

fn ballooning(free: u64) -> Value {
    let samples = history(
        10,
        |back| json!({"mem_available": HOST, "mem_free": (HOST * free / PART).saturating_sub(back * 1009 % 4000), "cpu_count": 6}),
    );
    json!({"host": {"properties": {"interval": 5}, "history": samples}, "guests": guests()})
}

/// Hosts for KSM: small and large ones, with little and much free and promised, scanning slowly and fast.
fn merging() -> Vec<Value> {
    let mut worlds = Vec::new();
    for size in [1 << 20, 16 << 20, 33_554_431, 1 << 30] {
        for (free, promised) in
            [(0, 0), (1999, 7999), (2000, 8000), (2001, 8001), (5000, 7000), (5000, 9000), (9000, 0)]
        {
            for (pages, shared, across) in
                [(0, 0, 1), (64, 10, 1), (113, 0, 0), (951, 10, 0), (1250, 0, 1), (5000, 0, 1)]
            {
                let samples = history(10, |back| {
                    json!({
                        "mem_available": size, "mem_free": (size * free / PART).saturating_sub(back),
                        "ksm_shareable": size * promised / PART, "ksm_pages_to_scan": pages, "ksm_run": 1,
                        "ksm_pages_shared": shared, "ksm_merge_across_nodes": across, "ksm_sleep_millisecs": 20,
                    })
                });
                worlds
                    .push(json!({"host": {"properties": {"interval": 5}, "history": samples}, "guests": []}));
            }
        }
    }
    worlds
}

fn ours_of(name: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/samples/mom").join(name);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

fn case(files: &[String], input: &Value) -> Case {
    Case { files: files.iter().map(|file| file.clone().into_bytes()).collect(), input: input.clone() }
}

/// Evaluates on both sides, which must agree, without an error; what was commanded.
fn agreed(oracle: &mut Oracle, files: &[String], input: &Value) -> Result<Told> {
    let case = case(files, input);
    let (mom, ours) = (oracle.ask(&case)?, Ours::of(&case));
    ensure!(
        compare(&mom, &ours) == Verdict::Same,
        "they differ:\n MOM: {mom}\n ours: {ours}\n input: {input}"
    );
    match mom {
        Answer::Whole(told) => Ok(told),
        Answer::Error { .. } => anyhow::bail!("a stock policy ends in an error: {mom}\n input: {input}"),
    }
}

/// The controls of the host and of each guest, as MOM's controllers send them: whole numbers, what is behind the point cut.
fn commands(told: &Told) -> BTreeMap<String, String> {
    let mut commands = BTreeMap::new();
    let mut add = |of: &str, subject: &Told| {
        if let Some(Told::Map(controls)) = subject.field("controls") {
            for (name, value) in controls {
                commands.insert(format!("{of} {name}"), cut(value));
            }
        }
    };
    if let Some(host) = told.field("host") {
        add("host", host);
    }
    if let Some(Told::Map(guests)) = told.field("guests") {
        for (name, guest) in guests {
            add(name, guest);
        }
    }
    commands
}

fn cut(value: &Told) -> String {
    match value {
        Told::Float(value) => format!("{:.0}", value.trunc()),
        other => other.to_string(),
    }
}

/// These files of MOM, and ours of the same names.
fn mom_and_ours(names: &[&str]) -> Result<[Vec<String>; 2]> {
    let read = |by: fn(&str) -> Result<String>| names.iter().map(|name| by(name)).collect::<Result<Vec<_>>>();
    Ok([read(mom_rules)?, read(ours_of)?])
}

#[test]
fn our_balloon_rules_command_what_moms_own_do_to_the_kilobyte() -> Result<()> {
    let mut oracle = Oracle::start()?;
    let (mut shrunk, mut grown) = (0, 0);
    for qos in [false, true] {
        let [mom, ours] =
            mom_and_ours(if qos { &["balloon.rules", "balloon-qos.rules"] } else { &["balloon.rules"] })?;
        for free in FREE {
            let mut input = ballooning(free);
            // MOM's own rules take a guest without statistics for a reason to end.
            if let Some(guests) = input["guests"].as_array_mut() {
                guests.pop();
            }
            let told = commands(&agreed(&mut oracle, &mom, &input)?);
            assert_eq!(
                told,
                commands(&agreed(&mut oracle, &ours, &input)?),
                "{free} of {PART} free, qos {qos}"
            );
            *if free < 2000 { &mut shrunk } else { &mut grown } += told.len();
        }
    }
    // The grid reaches both halves of the rules.
    assert!(shrunk > 500 && grown > 500, "{shrunk} targets below the threshold, {grown} above");
    Ok(())
}

#[test]
fn our_ksm_rules_command_what_moms_own_do() -> Result<()> {
    let mut oracle = Oracle::start()?;
    let [mom, ours] = mom_and_ours(&["ksm.rules"])?;
    let mut ways = BTreeMap::<String, u32>::new();
    for input in merging() {
        let told = commands(&agreed(&mut oracle, &mom, &input)?);
        assert_eq!(told, commands(&agreed(&mut oracle, &ours, &input)?), "{input}");
        *ways.entry(told.get("host ksm_run").cloned().unwrap_or_default()).or_default() += 1;
    }
    assert!(ways.len() == 2 && ways.values().all(|count| *count > 10), "{ways:?}");
    Ok(())
}

#[test]
fn vdsms_set_means_the_same_on_both_evaluators_with_whatever_parameters() -> Result<()> {
    let mut oracle = Oracle::start()?;
    let names = ["00-defines", "02-balloon", "03-ksm", "04-cputune"];
    let mut files =
        names.map(|name| ours_of(&format!("vdsm/{name}.policy"))).into_iter().collect::<Result<Vec<_>>>()?;
    files.insert(1, String::new());
    for (balloon, ksm, across) in [(0, 0, 0), (1, 1, 1), (1, 0, 1), (0, 1, 0), (1, 1, 0)] {
        files[1] = format!(
            "(set balloonEnabled {balloon})\n(set ksmEnabled {ksm})\n(set ksmMergeAcrossNodes {across})"
        );
        let host = &merging()[13]["host"];
        for free in [0, 500, 1999, 2000, 9000] {
            let mut input = ballooning(free);
            for sample in input["host"]["history"].as_array_mut().into_iter().flatten() {
                for (field, value) in host["history"][0].as_object().into_iter().flatten() {
                    if field.starts_with("ksm_") {
                        sample[field] = value.clone();
                    }
                }
            }
            agreed(&mut oracle, &files, &input)?;
        }
        for mut input in merging().into_iter().step_by(7) {
            for sample in input["host"]["history"].as_array_mut().into_iter().flatten() {
                sample["cpu_count"] = json!(2);
            }
            agreed(&mut oracle, &files, &input)?;
        }
    }
    Ok(())
}
