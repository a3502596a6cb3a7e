//! Tests of `index`.

use super::*;
use crate::fixture::{at, cluster, guest, node, object, policy, with_guests};

#[test]
fn a_late_watch_event_does_not_undo_what_a_write_told() {
    let mut index = cluster(&[], &[]);
    let fresh = Object { version: "10".into(), ..object("a", "gold") };
    let stale = Object { version: "9".into(), release_requested: true, ..object("a", "gold") };
    assert!(index.take(Change::Objects(Delta::Apply(fresh))));
    assert!(!index.take(Change::Objects(Delta::Apply(stale))));
    assert!(!index.objects["a"].release_requested);
}

#[test]
fn a_heartbeat_that_changes_no_label_is_no_change() {
    let mut index = cluster(&[], &[node("a")]);
    assert!(!index.take(Change::Nodes(Delta::Apply(node("a")))));
    assert!(index.take(Change::Nodes(Delta::Delete("a".into()))));
    assert!(!index.take(Change::Nodes(Delta::Delete("a".into()))));
}

#[test]
fn without_kubevirt_the_guests_count_as_listed_and_empty() {
    let mut index = Index::default();
    assert_eq!(index.waiting(), Watch::ALL);
    assert!(index.take(Change::Trouble(Source::Kind(Watch::Guests), Trouble::Absent, at(0))));
    assert!(!index.waiting().contains(&Watch::Guests));
    index.take(Change::Trouble(Source::Kind(Watch::Guests), Trouble::Absent, at(30)));
    assert_eq!(index.troubles(at(60)).count(), 1);
    assert_eq!(index.troubles(at(600)).count(), 0);
}

#[test]
fn a_moment_of_absence_does_not_empty_the_guests() {
    let mut index = with_guests(cluster(&[], &[]), &[guest("x", "a")]);
    index.take(Change::Trouble(Source::Kind(Watch::Guests), Trouble::Absent, at(0)));
    assert_eq!(index.guests.len(), 1);
    index.take(Change::Trouble(Source::Kind(Watch::Guests), Trouble::Absent, at(12)));
    assert!(index.guests.is_empty());
}

#[test]
fn a_failure_that_passes_is_not_told() {
    let mut index = Index::default();
    let fails = || Trouble::Failing("connection".into());
    index.take(Change::Trouble(Source::Kind(Watch::Nodes), fails(), at(0)));
    assert_eq!(index.troubles(at(5)).count(), 0);
    index.take(Change::Trouble(Source::Kind(Watch::Nodes), fails(), at(70)));
    assert_eq!(index.troubles(at(70)).count(), 1);
    index.take(Change::Trouble(Source::Kind(Watch::Nodes), fails(), at(700)));
    assert_eq!(index.troubles(at(701)).count(), 0);
}

#[test]
fn what_was_listed_without_a_label_that_is_needed_is_not_listed() {
    let mut index = cluster(&[], &[node("a")]);
    index.needs_labels(2);
    assert_eq!(index.waiting(), [Watch::Nodes, Watch::Namespaces, Watch::Guests]);
    // What was under way when the label came up.
    assert!(!index.take(Change::Nodes(Delta::Replace(vec![]))));
    index.take(Change::Keys(Watch::Nodes, 1));
    assert!(!index.take(Change::Nodes(Delta::Replace(vec![]))));
    assert!(index.nodes.contains_key("a") && index.waiting().contains(&Watch::Nodes));
    index.take(Change::Keys(Watch::Nodes, 2));
    assert!(index.take(Change::Nodes(Delta::Replace(vec![]))));
    assert!(index.nodes.is_empty() && !index.waiting().contains(&Watch::Nodes));
}

#[test]
fn a_watch_that_may_not_list_keeps_us_waiting() {
    let mut index = Index::default();
    index.take(Change::Trouble(Source::Kind(Watch::Nodes), Trouble::Forbidden, at(0)));
    assert!(index.waiting().contains(&Watch::Nodes));
    index.take(Change::Policies(Delta::Replace(vec![policy("gold", 0)])));
    assert!(!index.waiting().contains(&Watch::Policies));
}
