//! Whole reconciles with policies whose programs lie in ConfigMaps, on clusters made by hand.

use super::tests::{acts, apply, planned};
use super::*;
use crate::fixture::{
    at, cluster, guest, labelled, map, map_for, node, policy, policy_of, program_from, with_guests,
};
use crate::index::{Change, Delta, Source, Trouble, Watch};
use crate::verdict::{Stuck, Why};
use overcommit_crds::OvercommitPolicySpec;
use overcommit_crds::names::KUBEVIRT_SCHEDULABLE_LABEL;
use overcommit_crds::policy::{ClassSpec, Mode};
use overcommit_crds::selector::Selector;

const GOOD: &str = "(defvar share 0.2)";
const BAD: &str = "(+ shore 1)";

/// Everybody's status and objects are written, until there is nothing left to write.
fn settle(index: &mut Index) {
    for _ in 0..5 {
        let writes = planned(index, 0);
        if writes.is_empty() {
            return;
        }
        apply(index, writes);
    }
    panic!("it never ends: {:?}", planned(index, 0));
}

fn says(index: &mut Index, text: Option<&str>) {
    let texts = text.map(|text| map(&[("balloon", text)]));
    index.take(Change::Texts("rules".to_owned(), texts));
    settle(index);
}

/// The policy is edited.
fn edited(index: &mut Index, spec: OvercommitPolicySpec) {
    let known = index.policies["mom"].clone();
    index.take(Change::Policies(Delta::Apply(Policy { written: Ok(spec), ..known })));
    settle(index);
}

/// Two nodes that run a good program with a guest.
fn settled() -> Index {
    let policy = policy_of("mom", program_from("rules", "balloon"));
    let mut index = with_guests(cluster(&[policy], &[node("a"), node("b")]), &[guest("x", "a")]);
    says(&mut index, Some(GOOD));
    index
}

fn accepted(index: &Index) -> (bool, String, String) {
    let told = Condition::find(&index.policies["mom"].status.conditions, condition::ACCEPTED).unwrap();
    (told.status == true.into(), told.reason.clone(), told.message.clone())
}

fn text<'a>(index: &'a Index, node: &str) -> &'a str {
    let mom = index.spec(node).and_then(|spec| spec.resolved.engine.mom.as_ref());
    mom.and_then(|mom| mom.slots[0].program.as_deref()).unwrap()
}

#[test]
fn what_becomes_bad_is_told_and_what_was_good_stays() {
    let mut index = settled();
    assert_eq!((text(&index, "a"), accepted(&index).0), (GOOD, true));
    let before = index.objects.clone();
    let revision = index.policies["mom"].status.revision.clone();
    for (said, reason, told) in [
        (Some(BAD), "ProgramRefused", "50-main:1:4: undefined symbol shore"),
        (Some("("), "ProgramRefused", "50-main:1:"),
        (Some(" "), "ProgramMissing", "is empty"),
        (None, "ProgramMissing", "there is no ConfigMap rules"),
    ] {
        says(&mut index, said);
        let (accepted, why, message) = accepted(&index);
        assert!(!accepted && why == reason && message.contains(told), "{message}");
        assert!(message.ends_with(". What was given before stays on 2 nodes"), "{message}");
        assert_eq!(index.objects, before);
        assert_eq!(index.policies["mom"].status.revision, revision);
    }
    let mended = "(defvar share 0.3)";
    says(&mut index, Some(mended));
    assert_eq!(accepted(&index).2, "Holds on 2 nodes");
    assert_eq!((text(&index, "a"), text(&index, "b")), (mended, mended));
    assert_ne!(index.policies["mom"].status.revision, revision);
}

#[test]
fn a_key_that_is_missing_among_many_is_told_with_what_to_do_and_what_stays() {
    let mut index = settled();
    edited(&mut index, OvercommitPolicySpec { mode: Mode::Enforce, ..program_from("rules", "baloon") });
    let keys: Vec<String> = (0..99).map(|n| format!("{n:02}-{}", "k".repeat(250))).collect();
    let mut pairs: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), GOOD)).collect();
    pairs.push(("balloon", GOOD));
    index.take(Change::Texts("rules".to_owned(), Some(map_for(&["baloon"], &pairs))));
    settle(&mut index);
    let (_, reason, message) = accepted(&index);
    assert_eq!(reason, "ProgramMissing");
    assert!(message.contains("it has balloon and 99 more: correct the key, or add it. What"), "{message}");
    assert!(message.ends_with("mode: Observe ends all takes"), "{message}");
}

#[test]
fn a_restart_waits_for_the_text_and_knows_what_was_good_from_the_nodes() {
    let before = settled();
    let restarted = |extra: &[Meta]| {
        let policies: Vec<Policy> = before.policies.values().cloned().collect();
        let nodes: Vec<Meta> = before.nodes.values().chain(extra).cloned().collect();
        let mut index = cluster(&policies, &nodes);
        index.take(Change::Guests(Delta::Replace(before.guests.values().cloned().collect())));
        index.take(Change::Objects(Delta::Replace(before.objects.values().cloned().collect())));
        index
    };
    let mut index = restarted(&[]);
    assert_eq!(index.unread(), [Watch::ConfigMaps]);
    assert_eq!(planned(&index, 0), [], "nothing is told of what nobody has read");
    says(&mut index, Some(BAD));
    assert_eq!(index.objects, before.objects);
    // A node and a guest that came while there was no operator.
    let mut index = restarted(&[node("c")]);
    index.take(Change::Guests(Delta::Apply(guest("y", "c"))));
    says(&mut index, Some(BAD));
    assert_eq!(text(&index, "c"), GOOD);
    assert_eq!(index.spec("c").unwrap().guests[0].name, "y");
    assert_eq!(index.spec("c").unwrap().revision, index.spec("a").unwrap().revision);
}

#[test]
fn guests_come_and_go_while_a_program_cannot_run() {
    let mut index = settled();
    says(&mut index, Some(BAD));
    index.take(Change::Guests(Delta::Apply(guest("y", "a"))));
    index.take(Change::Guests(Delta::Delete("shop/x".into())));
    settle(&mut index);
    let names: Vec<&str> = index.spec("a").unwrap().guests.iter().map(|guest| guest.name.as_str()).collect();
    assert_eq!((names, text(&index, "a")), (vec!["y"], GOOD));
}

#[test]
fn where_classes_change_with_a_program_that_cannot_run_no_guest_comes_in() {
    let mut index = settled();
    let classes = vec![ClassSpec { name: "new".into(), ..ClassSpec::default() }];
    edited(&mut index, OvercommitPolicySpec { classes, ..program_from("rules", "absent") });
    index.take(Change::Guests(Delta::Apply(guest("y", "a"))));
    settle(&mut index);
    let spec = index.spec("a").unwrap();
    assert_eq!(spec.guests.len(), 1);
    assert_eq!((spec.guests[0].name.as_str(), spec.resolved.classes[0].name.as_str()), ("x", "default"));
}

#[test]
fn a_program_that_never_was_good_takes_no_node_from_others() {
    let spec = OvercommitPolicySpec { priority: 9, ..program_from("rules", "balloon") };
    let mut index = cluster(&[policy_of("mom", spec), policy("rest", 0)], &[node("a")]);
    settle(&mut index);
    assert_eq!(index.spec("a").unwrap().policy, "rest", "nobody waits for a ConfigMap but who names it");
    says(&mut index, Some(BAD));
    assert_eq!(index.spec("a").unwrap().policy, "rest");
    assert_eq!(accepted(&index).2, "50-main:1:4: undefined symbol shore");
    says(&mut index, Some(GOOD));
    assert_eq!(index.spec("a").unwrap().policy, "mom");
}

#[test]
fn a_node_that_is_no_longer_selected_goes_although_the_program_cannot_run() {
    let pool = |name: &str| labelled(name, &[("pool", "x"), (KUBEVIRT_SCHEDULABLE_LABEL, "true")]);
    let selector: Selector = serde_saphyr::from_str("{matchLabels: {pool: x}}").unwrap();
    let spec = OvercommitPolicySpec { node_selector: Some(selector), ..program_from("rules", "balloon") };
    let mut index = cluster(&[policy_of("mom", spec)], &[pool("a"), pool("b")]);
    says(&mut index, Some(GOOD));
    says(&mut index, Some(BAD));
    index.take(Change::Nodes(Delta::Apply(node("a"))));
    assert_eq!(acts(&index, 0), [Desired::Release { node: "a".into(), uid: String::new() }]);
}

#[test]
fn edits_that_only_stop_something_reach_nodes_whose_program_cannot_run() {
    let mut index = settled();
    says(&mut index, Some(BAD));
    let mut spec = program_from("rules", "balloon");
    spec.mode = Mode::Observe;
    spec.classes = vec![ClassSpec { exclude: true, ..ClassSpec::default() }];
    edited(&mut index, spec.clone());
    for node in ["a", "b"] {
        let given = index.objects[node].spec.as_ref().unwrap();
        assert_eq!((given.resolved.mode, given.resolved.classes[0].exclude), (Mode::Observe, true));
        assert!(text(&index, node).contains(GOOD) && is_sound(given));
    }
    assert!(!accepted(&index).2.contains("ends all takes"), "{:?}", accepted(&index));
    // What would have it do more waits for the program.
    spec.mode = Mode::Enforce;
    edited(&mut index, spec);
    assert_eq!(index.objects["a"].spec.as_ref().unwrap().resolved.mode, Mode::Observe);
    assert!(accepted(&index).2.contains("in the mode that it had"), "{:?}", accepted(&index));
}

#[test]
fn what_a_former_policy_of_that_name_has_left_is_no_good_of_the_new_one() {
    let mut index = settled();
    says(&mut index, Some(BAD));
    // It never was on a node: it was made anew, and an object of the former one is still going.
    index.policies.get_mut("mom").unwrap().status = OvercommitPolicyStatus::default();
    index.objects.get_mut("a").unwrap().release_requested = true;
    assert!(Selection::of(&index).last_good("mom").is_none());
    index.policies.get_mut("mom").unwrap().status.revision = Some("former".to_owned());
    assert!(Selection::of(&index).last_good("mom").is_some(), "b has it");
    index.objects.get_mut("b").unwrap().release_requested = true;
    assert!(Selection::of(&index).last_good("mom").is_none());
}

#[test]
fn a_damaged_object_of_a_node_is_given_what_its_neighbours_have() {
    let mut index = settled();
    says(&mut index, Some(BAD));
    let object = index.objects.get_mut("a").unwrap();
    object.spec.as_mut().unwrap().resolved.engine.mom.as_mut().unwrap().slots[0].program =
        Some("(evil)".into());
    settle(&mut index);
    assert!(text(&index, "a").contains(GOOD), "{}", text(&index, "a"));
}

#[test]
fn what_somebody_wrote_into_an_object_is_no_program_for_others() {
    let mut index = settled();
    for node in ["a", "b"] {
        let mut object = index.objects[node].clone();
        let slot = object.spec.as_mut().and_then(|spec| spec.resolved.engine.mom.as_mut()).unwrap();
        slot.slots[0].program = Some("(evil)".into());
        index.take(Change::Objects(Delta::Apply(object)));
    }
    index.take(Change::Texts("rules".to_owned(), None));
    index.take(Change::Nodes(Delta::Apply(node("c"))));
    settle(&mut index);
    assert!(index.spec("c").is_none());
}

#[test]
fn without_the_right_to_read_a_config_map_only_who_names_it_is_told() {
    let mut index =
        cluster(&[policy_of("mom", program_from("rules", "balloon")), policy("rest", 0)], &[node("a")]);
    index.take(Change::Trouble(Source::ConfigMap("rules".to_owned()), Trouble::Forbidden, at(0)));
    index.take(Change::Trouble(Source::ConfigMap("rules".to_owned()), Trouble::Forbidden, at(12)));
    let statuses: Vec<(String, String)> = planned(&index, 12)
        .into_iter()
        .filter_map(|write| match write {
            Desired::Status { policy, status, .. } => {
                let degraded = Condition::find(&status.conditions, condition::DEGRADED).unwrap();
                Some((policy, degraded.message.clone()))
            }
            _ => None,
        })
        .collect();
    assert!(
        statuses[0].0 == "mom" && statuses[0].1.contains("may not list and watch configmaps"),
        "{statuses:?}"
    );
    assert_eq!(statuses[1], ("rest".to_owned(), "No node reports a limit".to_owned()));
}

#[test]
fn of_two_config_maps_that_cannot_be_read_the_one_that_recovers_says_nothing_of_the_other() {
    let policies = [("one", "a"), ("two", "b"), ("rest", "c")]
        .map(|(name, map)| policy_of(name, program_from(map, "balloon")));
    let mut index = cluster(&policies, &[node("a")]);
    let fails = |index: &mut Index, name: &str, seconds: i64| {
        index.take(Change::Trouble(Source::ConfigMap(name.to_owned()), Trouble::Forbidden, at(seconds)))
    };
    let hindered = |index: &Index| -> Vec<String> {
        let named = |source: &Source| match source {
            Source::ConfigMap(name) => name.clone(),
            Source::Kind(watch) => watch.resource().to_owned(),
        };
        index.troubles(at(12)).map(|(source, _)| named(source)).collect()
    };
    for seconds in [0, 12] {
        assert!(fails(&mut index, "a", seconds) && fails(&mut index, "b", seconds));
    }
    assert_eq!(hindered(&index), ["a", "b"]);
    index.take(Change::Texts("a".to_owned(), Some(map(&[("balloon", GOOD)]))));
    assert_eq!(hindered(&index), ["b"]);
    let degraded: Vec<String> = planned(&index, 12)
        .into_iter()
        .filter_map(|write| match write {
            Desired::Status { policy, status, .. } => {
                let told = Condition::find(&status.conditions, condition::DEGRADED).unwrap();
                told.message.contains("may not list and watch configmaps").then_some(policy)
            }
            _ => None,
        })
        .collect();
    assert_eq!(degraded, ["two"], "who does not name it is not told");
    index.take(Change::Policies(Delta::Delete("two".to_owned())));
    index.follow();
    assert_eq!(hindered(&index), Vec::<String>::new(), "nobody names it any more");
    assert!(!fails(&mut index, "b", 12) && hindered(&index).is_empty(), "nor is it kept if it fails late");
}

#[test]
fn what_is_wrong_with_all_config_maps_of_a_policy_is_told_once() {
    let mut spec = program_from("rules", "balloon");
    let mom = spec.engine.mom.as_mut().unwrap();
    let mut other = mom.slots[0].clone();
    other.name = "60-more".into();
    other.config_map_key_ref.as_mut().unwrap().name = "more".into();
    mom.slots.push(other);
    let mut index = cluster(&[policy_of("mom", spec)], &[node("a")]);
    for (name, seconds) in [("rules", 0), ("more", 0), ("rules", 12), ("more", 12)] {
        let source = Source::ConfigMap(name.to_owned());
        index.take(Change::Trouble(source, Trouble::Forbidden, at(seconds)));
    }
    let told = planned(&index, 12).into_iter().find_map(|write| match write {
        Desired::Status { status, .. } => {
            Condition::find(&status.conditions, condition::DEGRADED).map(|c| c.message.clone())
        }
        _ => None,
    });
    assert_eq!(told.unwrap().matches("may not list and watch").count(), 1);
}

#[test]
fn a_long_program_pushes_out_no_guest() {
    let mut index = cluster(&[policy_of("mom", program_from("rules", "balloon"))], &[node("a")]);
    for n in 0..110 {
        index.take(Change::Guests(Delta::Apply(guest(&format!("{}-{n:03}", "long".repeat(20)), "a"))));
    }
    says(&mut index, Some(&format!("1 #{}", "x".repeat(30_000))));
    assert_eq!(index.spec("a").unwrap().guests.len(), 110);
}

#[test]
fn what_nobody_names_any_more_is_forgotten_and_what_comes_late_of_it_is_not_kept() {
    let mut index = settled();
    assert_eq!(index.follow().len(), 1);
    index.take(Change::Policies(Delta::Replace(vec![policy("rest", 0)])));
    assert!(index.follow().is_empty() && index.maps.count() == 0);
    assert!(!index.take(Change::Texts("rules".to_owned(), Some(map(&[("balloon", GOOD)])))));
    assert_eq!(index.maps.count(), 0);
}

/// Who was judged since has another verdict.
fn mark(index: &mut Index, name: &str) {
    let policy = index.policies.get_mut(name).unwrap();
    let spec = policy.sound().unwrap().clone();
    let (classes, why) = (spec.classes.clone(), Why::Refused("not judged".to_owned()));
    policy.verdict = Verdict::Stuck(Box::new(Stuck { spec, classes, resolved_classes: Vec::new(), why }));
}

fn is_marked(index: &Index, name: &str) -> bool {
    let why = Why::Refused("not judged".to_owned());
    matches!(&index.policies[name].verdict, Verdict::Stuck(stuck) if stuck.why == why)
}

#[test]
fn what_a_config_map_says_has_only_those_judged_who_name_it() {
    let policies =
        [("one", "a"), ("two", "b")].map(|(name, map)| policy_of(name, program_from(map, "balloon")));
    let mut index = cluster(&[&policies[..], &[policy("rest", 0)]].concat(), &[node("n")]);
    for name in ["one", "two", "rest"] {
        mark(&mut index, name);
    }
    assert!(index.take(Change::Texts("a".to_owned(), Some(map(&[("balloon", GOOD)])))));
    assert_eq!(["one", "two", "rest"].map(|name| is_marked(&index, name)), [false, true, true]);
    assert!(index.policies["one"].checked().is_some());
}

#[test]
fn a_policy_that_names_no_config_map_is_judged_once_where_it_comes_in() {
    let policies = [policy("rest", 0), policy_of("mom", program_from("rules", "balloon"))];
    let mut index = cluster(&policies, &[]);
    for name in ["rest", "mom"] {
        mark(&mut index, name);
        let marked = Policy { version: "2".into(), ..index.policies[name].clone() };
        index.take(Change::Policies(Delta::Apply(marked)));
    }
    assert_eq!(["rest", "mom"].map(|name| is_marked(&index, name)), [true, false]);
}

#[test]
fn a_key_that_nobody_named_before_is_asked_for_and_what_runs_stays_meanwhile() {
    let mut index = settled();
    let keys = |index: &mut Index| index.follow().remove("rules").unwrap().into_iter().collect::<Vec<_>>();
    assert_eq!(keys(&mut index), ["balloon"]);
    edited(&mut index, program_from("rules", "other"));
    assert_eq!(keys(&mut index), ["other"], "the ConfigMap is read again for it");
    assert!(index.policies["mom"].is_unread() && index.unread() == [Watch::ConfigMaps]);
    assert_eq!(text(&index, "a"), GOOD);
    let other = "(defvar share 0.4)";
    index.take(Change::Texts("rules".to_owned(), Some(map(&[("other", other)]))));
    settle(&mut index);
    assert_eq!((text(&index, "a"), index.unread()), (other, vec![]));
}
