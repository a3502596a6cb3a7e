//! The way out: release asked for → Released reported → object deleted → the policy's finalizer removed. Pure; each
//! step is read from the API, so a restart goes on where it was.

use std::time::Duration;

use jiff::Timestamp;
use overcommit_crds::condition::Condition;
use overcommit_crds::names::condition;

use crate::index::Index;
use crate::object::{Object, Policy};
use crate::select::Selection;

/// What to do with the object of a node that no policy takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Ask the agent to give everything back.
    Ask,
    /// The agent is at it, or away.
    Wait,
    /// Everything is given back, or the node is gone: delete the object.
    Delete,
}

/// The next step for an object that no policy takes.
pub(crate) fn step(object: &Object, node_exists: bool) -> Step {
    match node_exists {
        _ if object.deleting => Step::Wait,
        false => Step::Delete,
        true if !object.release_requested => Step::Ask,
        true if released(object) => Step::Delete,
        true => Step::Wait,
    }
}

/// True if the agent has reported Released for the spec as it is; a word about an older spec says nothing.
fn released(object: &Object) -> bool {
    Condition::find(&object.status.conditions, condition::RELEASED).is_some_and(|c| {
        Condition::is_true(&object.status.conditions, condition::RELEASED)
            && c.observed_generation.is_none_or(|seen| seen >= object.generation)
    })
}

/// Why a policy's deletion waits: one entry for each node that still has an object of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blocker<'a> {
    /// The node.
    pub(crate) node: &'a str,
    /// What the agent says of it.
    pub(crate) why: &'a str,
}

/// The nodes that hold a policy back. A node that another policy takes holds it back until it is given that one.
pub(crate) fn blockers<'a>(policy: &Policy, index: &'a Index, selection: &Selection<'_>) -> Vec<Blocker<'a>> {
    let mine = index.objects.values().filter(|object| object.policy() == policy.name);
    mine.map(|object| Blocker { node: &object.name, why: why(object, selection) }).collect()
}

fn why<'a>(object: &'a Object, selection: &Selection<'_>) -> &'a str {
    if selection.holder(&object.name).is_some() {
        return "being given its next policy";
    }
    match Condition::find(&object.status.conditions, condition::RELEASED) {
        Some(said) if object.release_requested && !said.message.is_empty() => &said.message,
        _ if object.status.reported_at.is_none() => "its agent has never reported",
        _ => "its agent has not answered yet",
    }
}

/// When waiting for a policy's nodes ends.
pub(crate) fn deadline(policy: &Policy, timeout: Duration) -> Option<Timestamp> {
    let wait = jiff::SignedDuration::try_from(timeout).unwrap_or(jiff::SignedDuration::MAX);
    policy.deleted.map(|at| at.checked_add(wait).unwrap_or(Timestamp::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{at, cluster, node, object, policy, releasing, running, with_objects};

    #[test]
    fn a_node_is_asked_then_awaited_then_let_go() {
        assert_eq!(step(&running("a", "gold"), true), Step::Ask);
        assert_eq!(step(&releasing("a", "gold", false), true), Step::Wait);
        assert_eq!(step(&releasing("a", "gold", true), true), Step::Delete);
    }

    #[test]
    fn the_object_of_a_node_that_is_gone_is_deleted() {
        assert_eq!(step(&running("a", "gold"), false), Step::Delete);
        assert_eq!(step(&Object { deleting: true, ..running("a", "gold") }, false), Step::Wait);
    }

    #[test]
    fn a_release_reported_for_an_older_spec_does_not_count() {
        let mut stale = releasing("a", "gold", true);
        stale.generation = 5;
        stale.status.conditions[1].observed_generation = Some(4);
        assert_eq!(step(&stale, true), Step::Wait);
        stale.status.conditions[1].observed_generation = Some(5);
        assert_eq!(step(&stale, true), Step::Delete);
    }

    #[test]
    fn released_without_being_asked_does_not_count() {
        let mut early = releasing("a", "gold", true);
        early.release_requested = false;
        assert_eq!(step(&early, true), Step::Ask);
    }

    #[test]
    fn a_policy_waits_for_each_of_its_objects_and_says_why() {
        let gone = Policy { deleted: Some(at(0)), ..policy("gold", 0) };
        let index = with_objects(
            cluster(&[gone], &[node("a"), node("b"), node("c")]),
            &[releasing("a", "gold", false), object("b", "gold"), object("c", "other")],
        );
        let selection = Selection::of(&index);
        let blockers = blockers(&index.policies["gold"], &index, &selection);
        let expected = [
            Blocker { node: "a", why: "short 2 GiB" },
            Blocker { node: "b", why: "its agent has never reported" },
        ];
        assert_eq!(blockers, expected);
    }

    #[test]
    fn waiting_ends_after_the_timeout() {
        let gone = Policy { deleted: Some(at(0)), ..policy("gold", 0) };
        assert_eq!(deadline(&gone, Duration::from_mins(1)), Some(at(60)));
        assert_eq!(deadline(&policy("gold", 0), Duration::from_mins(1)), None);
    }
}
