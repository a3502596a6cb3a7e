//! The stock policies do what is computed by hand, to the last KiB.

use overcommit_policy::{Limits, Program, Severity, Source, World, check, evaluate, exchange};
use std::fmt::Write as _;
use std::path::Path;

fn files(names: &[&str]) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/samples/mom");
    names.iter().map(|name| ((*name).to_owned(), std::fs::read(folder.join(name)).unwrap())).collect()
}

fn sources(files: &[(String, Vec<u8>)]) -> Vec<Source<'_>> {
    files.iter().map(|(name, bytes)| Source { name, bytes }).collect()
}

/// The world after an evaluation of these files, with parameters behind the first of them.
fn after(names: &[&str], parameters: &str, world: &str) -> World {
    let mut files = files(names);
    files.insert(1, ("01-parameters".to_owned(), parameters.as_bytes().to_vec()));
    let program = Program::parse(&sources(&files)).unwrap();
    let mut world = exchange::read(world.as_bytes()).unwrap();
    let evaluation = evaluate(&program, &mut world, &Limits::default()).unwrap();
    assert_eq!(evaluation.errors, []);
    world
}

/// A guest's or the host's control as it is printed; "-" where it is not set.
fn control(world: &World, guest: Option<usize>, name: &str) -> String {
    let subject = guest.map_or(&world.host, |n| &world.guests[n]);
    match subject.controls.get(name) {
        None => "-".to_owned(),
        Some(value) => format!("{value:?}"),
    }
}

const GIB: i64 = 1 << 20;

/// A host of 16,000,000 KiB of which so many permille are free, and a guest: balloon, maximum, minimum and unused memory in KiB.
fn balloon_world(free: i64, (cur, max, min, unused): (i64, i64, i64, i64)) -> String {
    let total = 16_000_000;
    let host = total * free / 1000;
    format!(
        r#"{{"host": {{"history": [{{"mem_available": {total}, "mem_free": {host}}}]}}, "guests": [{{"name": "g", "history":
        [{{"balloon_cur": {cur}, "balloon_max": {max}, "balloon_min": {min}, "mem_unused": {unused}}}]}}]}}"#
    )
}

fn balloon(names: &[&str], parameters: &str, free: i64, guest: (i64, i64, i64, i64)) -> String {
    control(&after(names, parameters, &balloon_world(free, guest)), Some(0), "balloon_target")
}

const ARTICLE: &[&str] = &["balloon.rules"];
const VDSM: &[&str] = &["vdsm/00-defines.policy", "vdsm/02-balloon.policy"];
const ON: &str = "(set balloonEnabled 1)";

#[test]
fn nothing_is_wrong_with_the_stock_policies() {
    let vdsm =
        ["vdsm/00-defines.policy", "vdsm/02-balloon.policy", "vdsm/03-ksm.policy", "vdsm/04-cputune.policy"];
    let sets: [&[&str]; 5] = [
        ARTICLE,
        &["ksm.rules"],
        &["balloon-qos.rules"],
        &["balloon.rules", "balloon-qos.rules", "ksm.rules"],
        &vdsm,
    ];
    for set in sets {
        let findings = check(&sources(&files(set)));
        let told: Vec<_> = findings.iter().map(ToString::to_string).collect();
        assert!(findings.iter().all(|finding| finding.severity == Severity::Warning), "{told:?}");
        // What nobody acts on is said, and nothing else.
        let unsupported: Vec<_> = findings.iter().map(|finding| finding.unsupported).collect();
        let all = ["ksm_run 2", "ksm_merge_across_nodes", "vcpu_quota", "vcpu_period"].map(Some);
        assert_eq!(unsupported, if set.len() == 4 { &all[..] } else { &[] }, "{told:?}");
    }
}

#[test]
fn an_idle_guest_gives_five_percent_under_pressure() {
    // 10 % free: 4 GiB with 3 GiB unused could go down to 1 + 0.4 GiB, but not at once.
    assert_eq!(balloon(ARTICLE, "", 100, (4 * GIB, 4 * GIB, GIB, 3 * GIB)), "Float(3984588.8)");
    assert_eq!(balloon(VDSM, ON, 100, (4 * GIB, 4 * GIB, GIB, 3 * GIB)), "Float(3984588.8)");
}

#[test]
fn a_guest_keeps_what_it_uses_and_a_part_that_shrinks_with_the_hosts_free_memory() {
    // 10 % free: used 3.7 GiB, and 10 % of 4 GiB on top is more than 4: nothing to take.
    assert_eq!(balloon(ARTICLE, "", 100, (4_000_000, 4_000_000, 0, 300_000)), "-");
    // 10 % free: 3,500,000 used and 400,000 on top, above the step.
    assert_eq!(balloon(ARTICLE, "", 100, (4_000_000, 4_000_000, 0, 500_000)), "Float(3900000.0)");
    // 5 % free is danger: nothing on top. (3,840,000 KiB are used, above the step.)
    assert_eq!(balloon(ARTICLE, "", 50, (4_000_000, 4_000_000, 0, 160_000)), "Float(3840000.0)");
    // 1 % free: 4 % of the guest's memory below what it uses.
    let deep = balloon(ARTICLE, "", 10, (4_000_000, 4_000_000, 0, 0));
    assert!(deep.starts_with("Float(38400") && deep.len() < 26, "{deep}");
}

#[test]
fn a_guest_is_never_taken_below_its_minimum() {
    assert_eq!(balloon(ARTICLE, "", 10, (4_000_000, 4_000_000, 3_900_000, 3_000_000)), "Int(3900000)");
    assert_eq!(balloon(ARTICLE, "", 10, (4_000_000, 4_000_000, 4_000_000, 3_000_000)), "-");
}

#[test]
fn a_change_of_a_quarter_percent_is_none() {
    // 10,000 of 4,000,000 are 0.25 %.
    assert_eq!(balloon(ARTICLE, "", 100, (4_000_000, 4_000_000, 3_990_000, 4_000_000)), "-");
    assert_eq!(balloon(ARTICLE, "", 100, (4_000_000, 4_000_000, 3_989_999, 4_000_000)), "Int(3989999)");
    assert_eq!(balloon(ARTICLE, "", 500, (4_000_000, 4_010_000, 0, 4_000_000)), "-");
    assert_eq!(balloon(ARTICLE, "", 500, (4_000_000, 4_010_001, 0, 4_000_000)), "Int(4010001)");
}

#[test]
fn a_guest_grows_by_five_percent_and_faster_if_it_has_little_unused() {
    assert_eq!(balloon(ARTICLE, "", 500, (4_000_000, 8_000_000, 0, 3_000_000)), "Float(4200000.0)");
    // It uses 3,900,000, and 20 % on top are 800,000.
    assert_eq!(balloon(ARTICLE, "", 500, (4_000_000, 8_000_000, 0, 100_000)), "Float(4700000.0)");
    assert_eq!(balloon(ARTICLE, "", 500, (4_000_000, 4_100_000, 0, 100_000)), "Int(4100000)");
    assert_eq!(balloon(ARTICLE, "", 500, (4_000_000, 4_000_000, 0, 0)), "-");
    // The edge of pressure is none.
    assert_eq!(balloon(ARTICLE, "", 200, (4_000_000, 8_000_000, 0, 3_000_000)), "Float(4200000.0)");
}

#[test]
fn vdsm_deflates_faster_on_an_idle_host() {
    // Half of the host is free: 3 GiB used and 2 GiB on top.
    let guest = (4 * GIB, 8 * GIB, 0, GIB);
    assert_eq!(balloon(VDSM, ON, 500, guest), "Float(5242880.0)");
    assert_eq!(balloon(ARTICLE, "", 500, guest), "Float(4404019.2)");
}

#[test]
fn without_balloon_enabled_guests_are_given_memory_only_even_under_pressure() {
    assert_eq!(balloon(VDSM, "", 10, (4_000_000, 8_000_000, 0, 3_000_000)), "Float(4200000.0)");
    assert_eq!(balloon(VDSM, ON, 10, (4_000_000, 8_000_000, 0, 3_000_000)), "Float(3800000.0)");
}

#[test]
fn whoever_has_less_than_its_minimum_is_given_that_in_one_step() {
    assert_eq!(balloon(VDSM, ON, 10, (1_000_000, 4_000_000, 2_000_000, 0)), "Int(2000000)");
    let qos = &["balloon.rules", "balloon-qos.rules"];
    assert_eq!(balloon(qos, "", 10, (1_000_000, 4_000_000, 2_000_000, 0)), "Int(2000000)");
}

#[test]
fn vdsm_leaves_guests_alone_whose_data_are_missing() {
    let world = r#"{"host": {"history": [{"mem_available": 1000, "mem_free": 10}]}, "guests": [
        {"name": "a", "history": [{"balloon_cur": null, "balloon_max": null, "balloon_min": null, "mem_unused": 5}]},
        {"name": "b", "history": [{"balloon_cur": 100, "balloon_max": 200, "balloon_min": 150, "mem_unused": null}]}]}"#;
    let world = after(VDSM, ON, world);
    assert_eq!(
        [control(&world, Some(0), "balloon_target"), control(&world, Some(1), "balloon_target")],
        ["-", "-"]
    );
}

/// Targets of an idle guest whose balloon follows at once, cycle by cycle, until it rests.
fn course(names: &[&str], parameters: &str, free: i64, mut cur: i64, max: i64, min: i64) -> Vec<i64> {
    let mut course = Vec::new();
    while course.len() < 100 {
        let target = balloon(names, parameters, free, (cur, max, min, cur));
        let Some(target) = target.split(['(', ')', '.']).nth(1).and_then(|whole| whole.parse().ok()) else {
            break;
        };
        cur = target;
        course.push(cur);
    }
    course
}

#[test]
fn halving_a_guest_takes_14_cycles() {
    for (names, parameters) in [(ARTICLE, ""), (VDSM, ON)] {
        let course = course(names, parameters, 10, 4 * GIB, 4 * GIB, 2 * GIB);
        assert_eq!(course.len(), 14, "{course:?}");
        assert_eq!(course.last(), Some(&(2 * GIB)));
        assert_eq!(course[..3], [3_984_588, 3_785_358, 3_596_090]);
    }
}

fn ksm_world(free: i64, shareable: i64, pages: i64, (shared, across): (i64, i64), total: i64) -> String {
    format!(
        r#"{{"host": {{"history": [{{"mem_available": {total}, "mem_free": {free}, "ksm_shareable": {shareable},
        "ksm_pages_to_scan": {pages}, "ksm_pages_shared": {shared}, "ksm_merge_across_nodes": {across}}}]}}}}"#
    )
}

/// run, pages, sleep and across nodes.
fn ksm(names: &[&str], parameters: &str, world: &str) -> String {
    let world = after(names, parameters, world);
    let mut told = String::new();
    for name in ["ksm_run", "ksm_pages_to_scan", "ksm_sleep_millisecs", "ksm_merge_across_nodes"] {
        write!(told, "{} ", control(&world, None, name)).unwrap();
    }
    told.trim_end().to_owned()
}

const KSM: &[&str] = &["ksm.rules"];
const VDSM_KSM: &[&str] = &["vdsm/00-defines.policy", "vdsm/03-ksm.policy"];

#[test]
fn merging_stops_while_the_host_has_enough_for_all() {
    let total = 16 * GIB;
    for names in [KSM, VDSM_KSM] {
        // A fifth is free and another would be if guests used all they may.
        assert_eq!(ksm(names, "", &ksm_world(total / 2, total / 2, 500, (0, 1), total)), "Int(0) - - -");
        // Enough is free, but guests may use more: run, and calm down.
        let calm = ksm(names, "", &ksm_world(total / 2, total, 500, (0, 1), total));
        assert_eq!(calm.replace("Float(10.0)", "Int(10)"), "Int(1) Int(450) Int(10) -");
        // Exactly at the threshold is not above it.
        let total = 16_000_000;
        let edge = ksm(names, "", &ksm_world(total / 5, 0, 500, (0, 1), total));
        assert!(edge.starts_with("Int(1) Int(450) "), "{edge}");
    }
}

#[test]
fn merging_goes_faster_while_memory_is_short_within_64_and_1250_pages() {
    let total = 16 * GIB;
    for names in [KSM, VDSM_KSM] {
        for (free, now, expected) in [
            (total / 10, 0, 300),
            (total / 10, 1000, 1250),
            (total / 2, 100, 64),
            (total / 2, 5000, 1250),
            (total / 2, 1250, 1200),
        ] {
            let told = ksm(names, "", &ksm_world(free, total, now, (0, 1), total));
            assert!(told.starts_with(&format!("Int(1) Int({expected}) ")), "{told}");
        }
    }
}

#[test]
fn larger_hosts_sleep_less_and_vdsm_never_less_than_10_ms() {
    let total = 256 * GIB;
    let world = ksm_world(0, total, 0, (0, 1), total);
    assert_eq!(ksm(KSM, "", &world), "Int(1) Int(300) Float(0.625) -");
    assert_eq!(ksm(VDSM_KSM, "", &world), "Int(1) Int(300) Int(10) -");
    let total = 8 * GIB;
    assert_eq!(ksm(VDSM_KSM, "", &ksm_world(0, total, 0, (0, 1), total)), "Int(1) Int(300) Float(20.0) -");
}

#[test]
fn vdsm_unmerges_before_it_turns_merging_off_or_changes_the_nodes() {
    let total = 16 * GIB;
    let world = |shared, across| ksm_world(0, total, 0, (shared, across), total);
    assert_eq!(ksm(VDSM_KSM, "(set ksmEnabled 0)", &world(5, 1)), "Int(2) - - -");
    assert_eq!(ksm(VDSM_KSM, "(set ksmEnabled 0)", &world(0, 1)), "Int(0) - - -");
    assert_eq!(ksm(VDSM_KSM, "(set ksmMergeAcrossNodes 0)", &world(5, 1)), "Int(2) - - -");
    assert_eq!(ksm(VDSM_KSM, "(set ksmMergeAcrossNodes 0)", &world(0, 1)), "Int(1) Int(300) Int(10) Int(0)");
    assert_eq!(ksm(VDSM_KSM, "(set ksmMergeAcrossNodes 0)", &world(7, 0)), "Int(1) Int(300) Int(10) -");
    let both = "(set ksmEnabled 0) (set ksmMergeAcrossNodes 0)";
    assert_eq!(ksm(VDSM_KSM, both, &world(0, 1)), "Int(0) - - Int(0)");
}

#[test]
fn processors_are_shared_by_quota_and_period() {
    let names = &["vdsm/00-defines.policy", "vdsm/04-cputune.policy"];
    let told = |parameters: &str, limit: &str, vcpus: i64| {
        let world = format!(
            r#"{{"host": {{"history": [{{"cpu_count": 4}}]}}, "guests": [{{"name": "g",
            "history": [{{"vcpu_user_limit": {limit}, "vcpu_count": {vcpus}}}]}}]}}"#
        );
        let world = after(names, parameters, &world);
        [control(&world, Some(0), "vcpu_quota"), control(&world, Some(0), "vcpu_period")].join(" ")
    };
    // Half of four processors for two: 100 % of each.
    assert_eq!(told("", "50", 2), "Float(100000.0) Int(100000)");
    assert_eq!(told("", "25", 4), "Float(25000.0) Int(100000)");
    assert_eq!(told("", "100", 2), "Int(-1) Int(100000)");
    // 500 µs are too few: three times as many of a period three times as long.
    assert_eq!(told("", "1", 8), "Float(1500.0) Float(300000.0)");
    assert_eq!(told("", "null", 8), "- -");
    assert_eq!(told("", "0", 8), "- -");
    assert_eq!(told("(set cpuTuneEnabled 0)", "50", 2), "- -");
}
