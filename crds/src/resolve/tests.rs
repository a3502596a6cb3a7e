use super::*;
use crate::policy::EngineSpec;
use crate::quantity::{Period, SizeOrPercent};

#[test]
fn an_empty_spec_means_observe_everything_safely() {
    let policy = check(&OvercommitPolicySpec::default()).unwrap();
    assert_eq!(policy.mode, core::Mode::Observe);
    assert_eq!(policy.interval.as_secs(), 5);
    assert_eq!(&*policy.classes[0].name, "default");
    assert!(!policy.classes[0].floor.below_request);
    assert_eq!(policy.ksm, core::Ksm { mode: core::KsmMode::Off, across_namespaces: false });
}

#[test]
fn every_bad_field_is_named_at_once() {
    let mut spec = OvercommitPolicySpec { interval: Period("9h".into()), ..OvercommitPolicySpec::default() };
    spec.limits.dead_band = SizeOrPercent("120%".into());
    spec.classes = vec![ClassSpec::default(), ClassSpec::default()];
    spec.engine.adaptive = None;
    let paths: Vec<String> = check(&spec).unwrap_err().into_iter().map(|e| e.path).collect();
    assert_eq!(paths, ["spec.engine", "spec.interval", "spec.classes[1].name", "spec.limits.deadBand"]);
}

#[test]
fn what_is_set_of_the_engine_reaches_the_core_and_its_bounds_hold() {
    let set = |headroom_percent, turn_seconds| {
        let adaptive = Some(AdaptiveSpec { headroom_percent, turn_seconds });
        OvercommitPolicySpec { engine: EngineSpec { adaptive, mom: None }, ..OvercommitPolicySpec::default() }
    };
    let policy = check(&set(30, 600)).unwrap();
    let (headroom, turn) = (Permille::from_percent(30), Duration::from_mins(10));
    assert_eq!(policy.adaptive, core::Adaptive { headroom, turn });
    for (percent, seconds) in [(15, 30), (50, 1800)] {
        assert!(check(&set(percent, seconds)).is_ok());
    }
    for (percent, seconds) in [(14, 29), (51, 1801), (-1, i64::MAX)] {
        let told: Vec<String> =
            check(&set(percent, seconds)).unwrap_err().iter().map(ToString::to_string).collect();
        let headroom = format!("spec.engine.adaptive.headroomPercent: {percent} is outside 15 to 50");
        let turn = format!("spec.engine.adaptive.turnSeconds: {seconds} is outside 30 to 1800");
        assert_eq!(told, [headroom, turn]);
    }
}

#[test]
fn what_is_not_set_of_the_engine_is_as_the_core_has_it_and_is_not_written() {
    let spec = OvercommitPolicySpec::default();
    assert_eq!(check(&spec).unwrap().adaptive, core::Adaptive::default());
    let text = serde_json::to_value(resolve(&spec).engine).unwrap();
    assert_eq!(text, serde_json::json!({"adaptive": {}}), "nodes of such a policy get nothing new");
    let adaptive = Some(AdaptiveSpec { turn_seconds: 60, ..AdaptiveSpec::default() });
    let set = OvercommitPolicySpec { engine: EngineSpec { adaptive, mom: None }, ..spec.clone() };
    assert_ne!(revision(&resolve(&set)), revision(&resolve(&spec)));
    assert_eq!(
        serde_json::to_value(resolve(&set).engine).unwrap(),
        serde_json::json!({"adaptive": {"turnSeconds": 60}})
    );
}

#[test]
fn no_more_classes_are_taken_than_the_schema_takes() {
    let class = |n| ClassSpec { name: format!("c{n}"), ..ClassSpec::default() };
    let of = |count: usize| {
        check(&OvercommitPolicySpec {
            classes: (0..count).map(class).collect(),
            ..OvercommitPolicySpec::default()
        })
    };
    assert!(of(CLASSES_MAX).is_ok());
    let errors = of(100_000).unwrap_err();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].to_string(), "spec.classes: 100000 are too many: write at most 32");
}

#[test]
fn class_names_are_as_the_schema_has_them() {
    for good in ["a", "gold-2", &"g".repeat(63)] {
        assert!(is_class_name(good), "{good}");
    }
    for bad in ["", "Gold", "-a", "a-", "a b", &"g".repeat(64)] {
        assert!(!is_class_name(bad), "{bad}");
    }
}

#[test]
fn the_revision_follows_the_meaning_not_the_selection() {
    let spec = OvercommitPolicySpec::default();
    let elsewhere = OvercommitPolicySpec { priority: 7, ..spec.clone() };
    let enforced = OvercommitPolicySpec { mode: Mode::Enforce, ..spec.clone() };
    assert_eq!(revision(&resolve(&spec)), revision(&resolve(&elsewhere)));
    assert_ne!(revision(&resolve(&spec)), revision(&resolve(&enforced)));
    assert_eq!(revision(&resolve(&spec)).len(), 12);
    let ksm = KsmSpec { mode: KsmMode::Auto, across_namespaces: false };
    let merging = OvercommitPolicySpec { ksm, ..spec.clone() };
    assert_ne!(revision(&resolve(&spec)), revision(&resolve(&merging)));
    let text = serde_json::to_string(&resolve(&spec)).unwrap();
    assert!(!text.contains("ksm"), "nodes of a policy that says nothing of it get nothing new: {text}");
}

/// A policy with these limits.
fn limited(take_per_guest: &str, take_per_node: &str, dead_band: &str) -> OvercommitPolicySpec {
    let amount = |text: &str| SizeOrPercent(text.to_owned());
    let (take_per_guest, take_per_node) = (amount(take_per_guest), amount(take_per_node));
    let limits = LimitsSpec { take_per_guest, take_per_node, dead_band: amount(dead_band) };
    OvercommitPolicySpec { limits, ..OvercommitPolicySpec::default() }
}

#[test]
fn a_dead_band_that_no_take_can_reach_is_refused_where_both_are_of_one_kind() {
    for (take, dead) in [("1%", "2%"), ("0.9%", "1%"), ("64Mi", "1Gi"), ("1000", "1Ki"), ("1", "2")] {
        let told: Vec<String> =
            check(&limited(take, "10%", dead)).unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [format!(
                "spec.limits.deadBand: {dead} is more than takePerGuest, {take}: no take could be as large as deadBand, so none would \
                 be made: write a smaller deadBand, or a larger takePerGuest"
            )]
        );
    }
    for (take, dead) in [("1%", "1%"), ("2%", "1.9%"), ("1Ki", "1024"), ("1Mi", "50%"), ("1%", "1Ti")] {
        assert!(check(&limited(take, "10%", dead)).is_ok(), "{take} {dead}");
    }
}

#[test]
fn who_takes_nothing_at_all_is_told_so_and_not_refused() {
    assert_eq!(doubts(&OvercommitPolicySpec::default()), [""; 0]);
    for (guest, node, fields) in [
        ("0%", "10%", vec!["takePerGuest is 0%"]),
        ("10%", "0", vec!["takePerNode is 0"]),
        ("0.0%", "0Mi", vec!["takePerGuest is 0.0%", "takePerNode is 0Mi"]),
    ] {
        let spec = limited(guest, node, "1%");
        assert!(check(&spec).is_ok());
        let told = fields.into_iter().map(|field| {
            format!("spec.limits.{field}, so nothing is ever taken: write more, or mode: Observe")
        });
        assert_eq!(doubts(&spec), told.collect::<Vec<_>>());
    }
}
