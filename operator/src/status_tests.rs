//! Status of a policy, on clusters made by hand.

use super::*;
use crate::fixture::{
    at, cluster, node, object, policy, policy_of, releasing, running, says, selecting, with_objects,
};
use crate::index::Change;
use crate::object::Object;
use crate::release;
use crate::select::Selection;
use overcommit_crds::OvercommitPolicySpec;
use overcommit_crds::quantity::Period;

fn status_at(index: &Index, name: &str, now: Timestamp) -> OvercommitPolicyStatus {
    let selection = Selection::of(index);
    let policy = &index.policies[name];
    let timeout = Duration::from_mins(1);
    let facts = Facts {
        claim: selection.claim_of(name),
        blockers: release::blockers(policy, index, &selection),
        left_out: LeftOut::default(),
        timeout,
        overdue: release::deadline(policy.deleted, timeout).is_some_and(|end| end <= now),
    };
    status(policy, &facts, index, now)
}

fn found<'a>(status: &'a OvercommitPolicyStatus, type_: &str) -> (bool, &'a str, &'a str) {
    let c = Condition::find(&status.conditions, type_).unwrap();
    (c.status == ConditionStatus::True, &c.reason, &c.message)
}

fn ledger(mib: u64) -> LedgerStatus {
    let size = || Size::from_bytes(Bytes::from_mib(mib));
    LedgerStatus {
        total: size(),
        budget: size(),
        promised: size(),
        resident: size(),
        reclaimed: size(),
        reclaimable: size(),
        merged: size(),
        at_risk: size(),
        shortfall: Size("0".into()),
    }
}

#[test]
fn a_policy_whose_nodes_all_run_it_is_ready() {
    let index = with_objects(
        cluster(&[policy("gold", 0)], &[node("a"), node("b")]),
        &[running("a", "gold"), running("b", "gold")],
    );
    let status = status_at(&index, "gold", at(60));
    assert_eq!(status.nodes, NodeCounts { selected: 2, updated: 2, ready: 2, degraded: 0 });
    assert_eq!(found(&status, READY).1, "Observing");
    assert!(found(&status, ACCEPTED).0 && !found(&status, PROGRESSING).0 && !found(&status, DEGRADED).0);
}

#[test]
fn memory_is_summed_over_the_nodes_that_report() {
    let with = |name, mib| {
        let mut object = running(name, "gold");
        object.status.ledger = Some(ledger(mib));
        object
    };
    let index = with_objects(
        cluster(&[policy("gold", 0)], &[node("a"), node("b"), node("c")]),
        &[with("a", 1024), with("b", 512), running("c", "gold")],
    );
    let memory = status_at(&index, "gold", at(60)).memory.unwrap();
    assert_eq!((memory.promised.0.as_str(), memory.shortfall.0.as_str()), ("1536Mi", "0"));
}

#[test]
fn nodes_that_are_not_ready_are_named_with_the_reason() {
    let mut broken = running("b", "gold");
    broken.status.conditions =
        vec![says(READY, false, "no libvirt"), says(DEGRADED, true, "one blind guest")];
    let index = with_objects(
        cluster(&[policy("gold", 0)], &[node("a"), node("b"), node("c")]),
        &[running("a", "gold"), broken, object("c", "gold")],
    );
    let status = status_at(&index, "gold", at(60));
    assert_eq!(status.nodes, NodeCounts { selected: 3, updated: 2, ready: 1, degraded: 1 });
    let (yes, reason, message) = found(&status, READY);
    assert!(!yes && reason == "NodesNotReady");
    assert!(
        message.contains("b: no libvirt") && message.contains("c: its agent has not reported"),
        "{message}"
    );
    assert_eq!(found(&status, DEGRADED).2, "b: one blind guest");
    assert!(found(&status, PROGRESSING).0);
}

#[test]
fn a_silent_agent_is_not_ready() {
    let index = with_objects(cluster(&[policy("gold", 0)], &[node("a")]), &[running("a", "gold")]);
    assert_eq!(status_at(&index, "gold", at(600)).nodes.ready, 1);
    assert_eq!(status_at(&index, "gold", at(700)).nodes.ready, 0);
}

#[test]
fn the_loser_everywhere_is_overridden_and_names_the_winner() {
    let index = cluster(&[policy("lost", 0), policy("won", 5)], &[node("a")]);
    let status = status_at(&index, "lost", at(1));
    let (yes, reason, message) = found(&status, ACCEPTED);
    assert!(!yes && reason == "Overridden" && message.contains("won holds 1"), "{message}");
    assert_eq!(found(&status, READY).1, "Overridden");
}

#[test]
fn the_loser_on_some_nodes_is_accepted_with_counts() {
    let mut b = node("b");
    b.labels.insert("pool".into(), "x".into());
    let index = cluster(&[policy("wide", 0), selecting("narrow", 5, &[("pool", "x")])], &[node("a"), b]);
    let status = status_at(&index, "wide", at(1));
    let (yes, reason, message) = found(&status, ACCEPTED);
    assert!(yes && reason == "Accepted" && message.contains("1 of 2"), "{message}");
}

#[test]
fn an_invalid_policy_names_its_fields() {
    let spec = OvercommitPolicySpec { interval: Period("9h".into()), ..Default::default() };
    let index = with_objects(cluster(&[policy_of("bad", spec)], &[node("a")]), &[running("a", "bad")]);
    let status = status_at(&index, "bad", at(1));
    let (yes, reason, message) = found(&status, ACCEPTED);
    assert!(!yes && reason == "Invalid");
    assert!(message.contains("spec.interval") && message.contains("stays on 1 node"), "{message}");
}

#[test]
fn a_deletion_names_what_it_waits_for_and_says_when_it_gave_up() {
    let gone = Policy { deleted: Some(at(0)), ..policy("gold", 0) };
    let index = with_objects(cluster(&[gone], &[node("a")]), &[releasing("a", "gold", false)]);
    let early = status_at(&index, "gold", at(10));
    assert!(found(&early, PROGRESSING).2.contains("a: short 2 GiB"));
    let late = status_at(&index, "gold", at(61));
    assert_eq!(found(&late, DEGRADED).1, RELEASE_TIMEOUT);
    assert!(found(&late, DEGRADED).2.contains("after") || found(&late, DEGRADED).2.contains("After 60 s"));
}

#[test]
fn without_kubevirt_the_condition_says_so() {
    let mut index = with_objects(cluster(&[policy("gold", 0)], &[node("a")]), &[running("a", "gold")]);
    index.take(Change::Trouble(Source::Kind(Watch::Guests), Trouble::Absent, at(0)));
    assert!(!found(&status_at(&index, "gold", at(1)), DEGRADED).0);
    assert!(found(&status_at(&index, "gold", at(11)), DEGRADED).2.contains("install KubeVirt"));
}

#[test]
fn a_condition_that_holds_keeps_its_time() {
    let mut first = cluster(&[policy("gold", 0)], &[node("a")]);
    first = with_objects(first, &[running("a", "gold")]);
    let before = status_at(&first, "gold", at(1));
    let kept = Policy { status: before.clone(), ..policy("gold", 0) };
    let index = with_objects(cluster(&[kept], &[node("a")]), &[running("a", "gold")]);
    assert_eq!(status_at(&index, "gold", at(50)), before);
}

#[test]
fn while_a_watch_is_missing_the_rest_of_the_status_stays() {
    let known = OvercommitPolicyStatus {
        nodes: NodeCounts { selected: 4, ..Default::default() },
        conditions: vec![says(ACCEPTED, true, "")],
        ..Default::default()
    };
    let mut index = Index::default();
    index.take(Change::Trouble(Source::Kind(Watch::Nodes), Trouble::Forbidden, at(0)));
    let status = blocked(&Policy { status: known, ..policy("gold", 0) }, &index.waiting(), &index, at(11));
    assert_eq!(status.nodes.selected, 4);
    assert!(found(&status, ACCEPTED).0);
    assert!(found(&status, DEGRADED).2.contains("may not list and watch nodes"));
}

#[test]
fn what_is_not_listed_is_told() {
    let index = with_objects(cluster(&[policy("gold", 0)], &[node("a")]), &[running("a", "gold")]);
    let told = |guests, pods| {
        let selection = Selection::of(&index);
        let facts = Facts {
            claim: selection.claim_of("gold"),
            blockers: Vec::new(),
            left_out: LeftOut { guests, pods },
            timeout: Duration::ZERO,
            overdue: false,
        };
        let status = status(&index.policies["gold"], &facts, &index, at(1));
        let (yes, reason, message) = found(&status, DEGRADED);
        (yes, reason.to_owned(), message.to_owned())
    };
    assert!(!told(0, 0).0);
    let (yes, reason, message) = told(3, 40);
    assert!(yes && reason == "TooManyGuests" && message.starts_with("3 guests"), "{message}");
    let (yes, reason, message) = told(0, 40);
    assert!(yes && reason == "TooManyPods" && message.starts_with("40 pods"), "{message}");
}

#[test]
fn an_object_of_another_policy_does_not_count_as_updated() {
    let other = Object { ..running("a", "other") };
    let index = with_objects(cluster(&[policy("gold", 0)], &[node("a")]), &[other]);
    assert_eq!(status_at(&index, "gold", at(1)).nodes.updated, 0);
}
