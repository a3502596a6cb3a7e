//! Whole reconciles on clusters made by hand: apply the plan's writes to the index, plan again.

use super::*;
use crate::fixture::{
    at, cluster, guest, labels, launcher, node, policy, policy_of, releasing, running, selecting,
    with_guests, with_objects,
};
use crate::index::{Change, Delta, Source, Trouble, Watch};
use overcommit_crds::OvercommitPolicySpec;
use overcommit_crds::names::{EXCLUDE_ANNOTATION, PAUSE_ANNOTATION};
use overcommit_crds::quantity::Period;

const TIMEOUT: Duration = Duration::from_mins(10);

/// A plan from nothing, its specs made.
fn whole(index: &Index, now: i64) -> Plan {
    let mut plan = plan(index, (&mut Known::default(), &mut Dirty::All), at(now), TIMEOUT);
    let specs = specs_of(index, &plan.nodes);
    assert_eq!(specs.len(), plan.nodes.len());
    plan.writes.splice(0..0, specs);
    plan
}

pub(super) fn planned(index: &Index, now: i64) -> Vec<Desired> {
    whole(index, now).writes.into_iter().map(|w| w.change).collect()
}

/// Writes to nodes and finalizers, leaving statuses out.
pub(super) fn acts(index: &Index, now: i64) -> Vec<Desired> {
    planned(index, now).into_iter().filter(|d| !matches!(d, Desired::Status { .. })).collect()
}

/// What an API server does with the writes.
pub(super) fn apply(index: &mut Index, writes: Vec<Desired>) {
    for write in writes {
        match write {
            Desired::Finalizers { policy, finalizers, .. } => {
                let known = index.policies[&policy].clone();
                let gone = known.deleted.is_some() && finalizers.is_empty();
                let delta =
                    if gone { Delta::Delete(policy) } else { Delta::Apply(Policy { finalizers, ..known }) };
                index.take(Change::Policies(delta));
            }
            Desired::Object { node, node_uid, spec } => {
                let known = index.objects.get(&node).cloned().unwrap_or_default();
                let object = Object {
                    name: node,
                    owner: Some(node_uid),
                    label: Some(spec.policy.clone()),
                    release_requested: spec.release,
                    finalizers: vec![RELEASE_FINALIZER.to_owned()],
                    spec: Some(*spec),
                    ..known
                };
                index.take(Change::Objects(Delta::Apply(object)));
            }
            Desired::Release { node, .. } => {
                let mut object = index.objects[&node].clone();
                object.release_requested = true;
                object.spec.as_mut().unwrap().release = true;
                index.take(Change::Objects(Delta::Apply(object)));
            }
            Desired::Unhold { node, finalizers, .. } => {
                let object = Object { finalizers, ..index.objects[&node].clone() };
                let gone = object.deleted.is_some() && object.finalizers.is_empty();
                let delta = if gone { Delta::Delete(node) } else { Delta::Apply(object) };
                index.take(Change::Objects(delta));
            }
            Desired::Delete { node, .. } => {
                assert!(index.objects[&node].finalizers.is_empty(), "a deletion would wait");
                index.take(Change::Objects(Delta::Delete(node)));
            }
            Desired::Status { policy, status, .. } => {
                let known = index.policies[&policy].clone();
                index.take(Change::Policies(Delta::Apply(Policy { status: *status, ..known })));
            }
        }
    }
}

fn settle(index: &mut Index, now: i64) {
    for _ in 0..10 {
        let writes = planned(index, now);
        if writes.is_empty() {
            return;
        }
        apply(index, writes);
    }
    panic!("still writes after ten rounds: {:?}", planned(index, now));
}

fn deleted(index: &mut Index, name: &str) {
    let known = index.policies[name].clone();
    index.take(Change::Policies(Delta::Apply(Policy { deleted: Some(at(0)), ..known })));
}

fn released(index: &mut Index, node: &str) {
    let policy = index.objects[node].policy().to_owned();
    index.take(Change::Objects(Delta::Apply(releasing(node, &policy, true))));
}

#[test]
fn a_settled_cluster_needs_no_write() {
    let mut index = with_guests(cluster(&[policy("gold", 0)], &[node("a"), node("b")]), &[guest("x", "a")]);
    settle(&mut index, 1);
    assert_eq!(index.objects.len(), 2);
    assert_eq!(index.spec("a").unwrap().guests.len(), 1);
    assert_eq!(planned(&index, 2), []);
}

#[test]
fn nothing_is_given_to_nodes_before_the_finalizer_is_there() {
    let bare = Policy { finalizers: vec![], ..policy("gold", 0) };
    let index = cluster(&[bare], &[node("a")]);
    let acts = acts(&index, 1);
    assert!(
        matches!(acts.as_slice(), [Desired::Finalizers { finalizers, .. }] if finalizers.len() == 1),
        "{acts:?}"
    );
}

#[test]
fn before_all_watches_have_listed_nothing_is_planned() {
    let mut index = Index::default();
    index.take(Change::Policies(Delta::Replace(vec![policy("gold", 0)])));
    index.take(Change::Objects(Delta::Replace(vec![running("a", "gold")])));
    assert_eq!(planned(&index, 1), []);
    index.take(Change::Trouble(Source::Kind(Watch::Nodes), Trouble::Forbidden, at(1)));
    assert_eq!(planned(&index, 2), []);
    assert!(matches!(planned(&index, 12).as_slice(), [Desired::Status { .. }]));
}

#[test]
fn a_deleted_policy_goes_when_its_nodes_have_given_back() {
    let mut index = cluster(&[policy("gold", 0)], &[node("a"), node("b")]);
    settle(&mut index, 1);
    deleted(&mut index, "gold");
    settle(&mut index, 2);
    assert!(index.objects.values().all(|o| o.release_requested));
    released(&mut index, "a");
    settle(&mut index, 3);
    assert!(index.policies.contains_key("gold"), "b has not given back");
    assert!(!index.objects.contains_key("a"));
    released(&mut index, "b");
    settle(&mut index, 4);
    assert!(index.policies.is_empty() && index.objects.is_empty());
}

#[test]
fn a_deleted_policy_does_not_wait_for_a_node_that_is_gone() {
    let mut index = cluster(&[policy("gold", 0)], &[node("a")]);
    settle(&mut index, 1);
    deleted(&mut index, "gold");
    index.take(Change::Nodes(Delta::Delete("a".into())));
    settle(&mut index, 2);
    assert!(index.policies.is_empty() && index.objects.is_empty());
}

#[test]
fn a_deleted_policy_does_not_wait_for_nodes_that_another_takes() {
    let mut index = cluster(&[policy("gold", 5), policy("next", 0)], &[node("a")]);
    settle(&mut index, 1);
    deleted(&mut index, "gold");
    settle(&mut index, 2);
    assert_eq!(index.policies.keys().collect::<Vec<_>>(), ["next"]);
    assert_eq!(index.spec("a").unwrap().policy, "next");
    assert!(!index.objects["a"].release_requested);
}

#[test]
fn after_the_timeout_it_is_reported_first_and_then_the_policy_goes() {
    let mut index = cluster(&[policy("gold", 0)], &[node("a")]);
    settle(&mut index, 1);
    deleted(&mut index, "gold");
    settle(&mut index, 2);
    assert_eq!(whole(&index, 2).wake, Some(at(600)));
    let report = whole(&index, 601).writes;
    assert!(
        matches!(report.as_slice(), [Write { change: Desired::Status { .. }, notes, .. }] if notes.len() == 1),
        "{report:?}"
    );
    settle(&mut index, 601);
    assert!(index.policies.is_empty());
    assert!(index.objects["a"].release_requested, "the agent is still to give back when it returns");
    released(&mut index, "a");
    settle(&mut index, 700);
    assert!(index.objects.is_empty());
}

#[test]
fn a_node_that_leaves_the_selection_is_released() {
    let mut index = cluster(&[selecting("gold", 0, &[("pool", "x")])], &[]);
    let mut a = node("a");
    a.labels.insert("pool".into(), "x".into());
    index.take(Change::Nodes(Delta::Apply(a)));
    settle(&mut index, 1);
    index.take(Change::Nodes(Delta::Apply(node("a"))));
    settle(&mut index, 2);
    assert!(index.objects["a"].release_requested);
    released(&mut index, "a");
    settle(&mut index, 3);
    assert!(index.objects.is_empty() && index.policies.contains_key("gold"));
}

#[test]
fn a_node_that_comes_back_while_it_releases_is_taken_again() {
    let mut index =
        with_objects(cluster(&[policy("gold", 0)], &[node("a")]), &[releasing("a", "gold", true)]);
    settle(&mut index, 1);
    assert!(!index.objects["a"].release_requested);
}

#[test]
fn an_object_that_somebody_deletes_or_edits_is_restored() {
    let mut index = cluster(&[policy("gold", 0)], &[node("a")]);
    settle(&mut index, 1);
    let before = index.spec("a").cloned();
    index.take(Change::Objects(Delta::Delete("a".into())));
    settle(&mut index, 2);
    assert_eq!(index.spec("a").cloned(), before);
    let mut edited = index.objects["a"].clone();
    edited.label = None;
    index.take(Change::Objects(Delta::Apply(edited)));
    assert_eq!(acts(&index, 3).len(), 1);
}

/// Somebody deletes a node's object.
fn object_deleted(index: &mut Index, node: &str) {
    let known = index.objects[node].clone();
    index.take(Change::Objects(Delta::Apply(Object { deleted: Some(at(0)), ..known })));
}

#[test]
fn deleting_objects_and_policies_at_once_strands_nothing_in_either_order() {
    for object_first in [true, false] {
        let mut index = cluster(&[policy("gold", 0)], &[node("a")]);
        settle(&mut index, 1);
        let uid = index.objects["a"].uid.clone();
        if object_first {
            object_deleted(&mut index, "a");
            settle(&mut index, 2);
            deleted(&mut index, "gold");
        } else {
            deleted(&mut index, "gold");
            settle(&mut index, 2);
            object_deleted(&mut index, "a");
        }
        settle(&mut index, 3);
        assert!(index.objects["a"].release_requested && index.objects["a"].uid == uid, "{object_first}");
        assert!(index.policies.contains_key("gold"), "the policy waits for it");
        let status = releasing("a", "gold", true).status;
        let given = Object { status, ..index.objects["a"].clone() };
        let given = Object { generation: 1, ..given };
        index.take(Change::Objects(Delta::Apply(given)));
        settle(&mut index, 4);
        assert!(index.objects.is_empty() && index.policies.is_empty(), "{object_first}");
    }
}

#[test]
fn a_deleted_object_is_given_up_after_the_timeout_with_a_warning() {
    let mut index = cluster(&[policy("gold", 0)], &[node("a")]);
    settle(&mut index, 1);
    object_deleted(&mut index, "a");
    settle(&mut index, 2);
    assert_eq!(whole(&index, 2).wake, Some(at(600)));
    let late = whole(&index, 601).writes;
    let given_up = late.iter().find(|w| matches!(w.change, Desired::Unhold { .. })).unwrap();
    assert!(format!("{:?}", given_up.notes).contains(RELEASE_TIMEOUT), "{given_up:?}");
    settle(&mut index, 601);
    assert!(!index.objects["a"].release_requested, "the policy takes the node anew");
}

/// What an operator knows after a restart while these watches cannot list.
fn restarted_without(index: &Index, missing: &[Watch]) -> Index {
    let mut fresh = Index::default();
    let all = |map: &BTreeMap<String, Meta>| map.values().cloned().collect();
    for watch in Watch::ALL.into_iter().filter(|watch| !missing.contains(watch)) {
        fresh.take(match watch {
            Watch::Policies => Change::Policies(Delta::Replace(index.policies.values().cloned().collect())),
            Watch::Objects => Change::Objects(Delta::Replace(index.objects.values().cloned().collect())),
            Watch::Nodes => Change::Nodes(Delta::Replace(all(&index.nodes))),
            Watch::Namespaces => Change::Namespaces(Delta::Replace(all(&index.namespaces))),
            Watch::Guests => Change::Guests(Delta::Replace(all(&index.guests))),
            Watch::Launchers => {
                Change::Launchers(Delta::Replace(index.launchers.values().cloned().collect()))
            }
            Watch::ConfigMaps => continue,
        });
    }
    for watch in missing {
        fresh.take(Change::Trouble(Source::Kind(*watch), Trouble::Forbidden, at(0)));
    }
    fresh
}

#[test]
fn without_guests_or_namespaces_a_release_goes_its_way() {
    let mut index = cluster(&[policy("gold", 0), selecting("other", 5, &[("pool", "x")])], &[node("a")]);
    settle(&mut index, 1);
    deleted(&mut index, "gold");
    let mut index = restarted_without(&index, &[Watch::Guests, Watch::Namespaces]);
    index.take(Change::Nodes(Delta::Apply(Meta { labels: labels(&[("pool", "x")]), ..node("b") })));
    settle(&mut index, 2);
    assert!(index.objects["a"].release_requested);
    assert!(!index.objects.contains_key("b"), "nothing is given without knowing the guests");
    released(&mut index, "a");
    settle(&mut index, 3);
    assert_eq!(index.policies.keys().collect::<Vec<_>>(), ["other"]);
}

#[test]
fn without_nodes_a_deletion_still_ends_with_its_time() {
    let mut index = cluster(&[policy("gold", 0)], &[node("a")]);
    settle(&mut index, 1);
    deleted(&mut index, "gold");
    let mut index = restarted_without(&index, &[Watch::Nodes]);
    settle(&mut index, 2);
    assert!(index.policies.contains_key("gold") && !index.objects["a"].release_requested);
    settle(&mut index, 601);
    assert!(index.policies.is_empty());
    assert!(index.objects.contains_key("a"), "a node that is not known is not gone");
}

#[test]
fn a_spec_that_cannot_be_read_is_released_all_the_same() {
    let mut index = cluster(&[policy("gold", 0)], &[node("a")]);
    settle(&mut index, 1);
    deleted(&mut index, "gold");
    let foreign = Object { spec: None, ..index.objects["a"].clone() };
    index.take(Change::Objects(Delta::Apply(foreign)));
    assert!(
        matches!(acts(&index, 2).as_slice(), [Desired::Release { node, .. }] if node == "a"),
        "{:?}",
        acts(&index, 2)
    );
}

#[test]
fn an_object_without_our_finalizer_gets_it() {
    let mut index = cluster(&[policy("gold", 0)], &[node("a")]);
    settle(&mut index, 1);
    let bare = Object { finalizers: vec![], ..index.objects["a"].clone() };
    index.take(Change::Objects(Delta::Apply(bare)));
    settle(&mut index, 2);
    assert!(index.objects["a"].held_by_us());
}

#[test]
fn a_policy_that_becomes_invalid_leaves_its_nodes_as_they_are() {
    let mut index = cluster(&[policy("gold", 0)], &[node("a")]);
    settle(&mut index, 1);
    let before = index.spec("a").cloned();
    let spec = OvercommitPolicySpec { interval: Period("9h".into()), ..Default::default() };
    let bad = policy_of("gold", spec);
    index.take(Change::Policies(Delta::Apply(Policy { version: "2".into(), ..bad })));
    settle(&mut index, 2);
    assert_eq!(index.spec("a").cloned(), before);
    let paused = Meta { annotations: labels(&[(PAUSE_ANNOTATION, "true")]), ..node("a") };
    index.take(Change::Nodes(Delta::Apply(paused)));
    settle(&mut index, 3);
    assert!(index.spec("a").unwrap().paused);
}

#[test]
fn higher_priority_takes_a_node_over_and_the_loser_is_told() {
    let mut index = cluster(&[policy("old", 0)], &[node("a")]);
    settle(&mut index, 1);
    index.take(Change::Policies(Delta::Apply(policy("new", 5))));
    let notes: Vec<Note> = whole(&index, 2).writes.into_iter().flat_map(|w| w.notes).collect();
    assert!(format!("{notes:?}").contains("Overridden"), "{notes:?}");
    settle(&mut index, 2);
    assert_eq!(index.spec("a").unwrap().policy, "new");
}

#[test]
fn sums_alone_are_written_rarely() {
    let mut index = cluster(&[policy("gold", 0)], &[node("a")]);
    settle(&mut index, 1);
    let known = index.policies["gold"].clone();
    let mut status = known.status.clone();
    assert_eq!(report(&known, status.clone()), None);
    status.observed_generation = Some(7);
    assert_eq!(report(&known, status).unwrap().pause, STATUS_PAUSE);
}

/// A cluster's life in small steps, each of which may touch anything.
fn steps() -> Vec<Change> {
    let pool = |name: &str, value: &str| {
        let mut node = node(name);
        node.labels.insert("pool".into(), value.into());
        node
    };
    let space = |out: bool| Meta {
        name: "shop".into(),
        annotations: if out { labels(&[(EXCLUDE_ANNOTATION, "true")]) } else { labels(&[]) },
        ..Meta::default()
    };
    let reported = |name: &str| Change::Objects(Delta::Apply(running(name, "gold")));
    vec![
        Change::Nodes(Delta::Apply(node("c"))),
        Change::Guests(Delta::Apply(guest("x", "a"))),
        reported("a"),
        Change::Guests(Delta::Apply(guest("y", "b"))),
        Change::Launchers(Delta::Apply(launcher("x-1", "x"))),
        Change::Guests(Delta::Apply(guest("x", "b"))),
        Change::Namespaces(Delta::Apply(space(true))),
        Change::Policies(Delta::Apply(selecting("high", 5, &[("pool", "x")]))),
        Change::Nodes(Delta::Apply(pool("b", "x"))),
        Change::Launchers(Delta::Apply(launcher("x-2", "x"))),
        Change::Launchers(Delta::Apply(launcher("x-2", "y"))),
        Change::Launchers(Delta::Delete("shop/x-1".into())),
        Change::Guests(Delta::Delete("shop/y".into())),
        Change::Objects(Delta::Delete("c".into())),
        Change::Objects(Delta::Apply(Object { label: None, ..running("a", "gold") })),
        Change::Objects(Delta::Apply(Object { deleted: Some(at(0)), ..running("b", "high") })),
        Change::Namespaces(Delta::Apply(space(false))),
        Change::Policies(Delta::Apply(Policy { deleted: Some(at(0)), ..policy("gold", 0) })),
        Change::Nodes(Delta::Delete("c".into())),
        Change::Policies(Delta::Delete("high".into())),
        Change::Guests(Delta::Replace(vec![guest("z", "a")])),
    ]
}

#[test]
fn planning_what_was_touched_finds_what_planning_everything_does() {
    for keep_writing in [false, true] {
        let mut index = cluster(&[policy("gold", 0)], &[node("a"), node("b")]);
        let (mut known, mut dirty) = (Known::default(), Dirty::All);
        for change in steps() {
            let what = format!("{change:?}");
            dirty.note(&index, &change);
            index.take(change);
            let partly = plan(&index, (&mut known, &mut dirty), at(1), TIMEOUT);
            assert_eq!(dirty, Dirty::default());
            let fully = plan(&index, (&mut Known::default(), &mut Dirty::All), at(1), TIMEOUT);
            assert_eq!((partly.nodes, partly.writes), (fully.nodes, fully.writes), "{what}");
            if keep_writing {
                for node in specs_of(&index, &["a".into(), "b".into(), "c".into()]) {
                    let Desired::Object { node, node_uid, spec } = node.change else { panic!() };
                    let change = Change::Objects(Delta::Apply(Object {
                        label: Some(spec.policy.clone()),
                        owner: Some(node_uid),
                        spec: Some(*spec),
                        ..running(&node, "")
                    }));
                    dirty.note(&index, &change);
                    index.take(change);
                }
            }
        }
    }
}

#[test]
fn a_report_of_an_agent_makes_no_node_worth_a_look() {
    let mut index = cluster(&[policy("gold", 0)], &[node("a")]);
    settle(&mut index, 1);
    let mut dirty = Dirty::default();
    let mut reported = index.objects["a"].clone();
    (reported.version, reported.status) = ("77".into(), running("a", "gold").status);
    dirty.note(&index, &Change::Objects(Delta::Apply(reported)));
    let known = index.policies["gold"].clone();
    dirty.note(&index, &Change::Policies(Delta::Apply(Policy { version: "78".into(), ..known })));
    assert_eq!(dirty, Dirty::default());
}
