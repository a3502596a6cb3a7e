//! The way out: release asked for → Released reported → the object's finalizer removed, object deleted → the policy's
//! finalizer removed. Pure; each step is read from the API, so a restart goes on where it was.
//!
//! An object that somebody else deletes takes the same way, whether a policy selects its node or not: which of both is
//! deleted first, of several at once, is chance, and an object that just went would leave nobody who asks for what was
//! taken. Where a policy still selects the node, it is given a new object then.

use std::time::Duration;

use jiff::Timestamp;
use overcommit_crds::condition::Condition;
use overcommit_crds::names::condition;

use crate::index::Index;
use crate::object::{Object, Policy};
use crate::select::Selection;

/// What to do with an object that is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Ask the agent to give everything back.
    Ask,
    /// The agent is at it, or away.
    Wait,
    /// Everything is given back, or the node is gone: remove our finalizer.
    Unhold,
    /// Somebody deletes it, and its node did not manage in time: say so, and remove our finalizer.
    GiveUp,
    /// Nothing holds it: delete it.
    Delete,
}

/// The next step for an object that no policy takes, or that somebody deletes; `overdue` when that was asked for too
/// long ago. A deletion adds to the generation: the finalizer goes before it, or Released would speak of an older one.
pub(crate) fn step(object: &Object, node_exists: bool, overdue: bool) -> Step {
    let (held, deleting) = (object.held_by_us(), object.deleted.is_some());
    match (!node_exists || released(object), held, deleting) {
        (true, true, _) => Step::Unhold,
        (true, false, false) => Step::Delete,
        // What others hold is theirs to let go.
        (_, false, true) => Step::Wait,
        (false, ..) if !object.release_requested => Step::Ask,
        (false, true, true) if overdue => Step::GiveUp,
        (false, ..) => Step::Wait,
    }
}

/// True if the agent has reported Released for the spec as it is, when that asks for it; a word about another spec says
/// nothing.
fn released(object: &Object) -> bool {
    let said = Condition::find(&object.status.conditions, condition::RELEASED);
    object.release_requested
        && said.is_some_and(|c| c.status == true.into() && c.observed_generation == Some(object.generation))
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
    if object.deleted.is_none() && selection.holder(&object.name).is_some() {
        return "being given its next policy";
    }
    said(object)
}

/// What the agent says of a release.
pub(crate) fn said(object: &Object) -> &str {
    match Condition::find(&object.status.conditions, condition::RELEASED) {
        Some(said) if object.release_requested && !said.message.is_empty() => &said.message,
        _ if object.status.reported_at.is_none() => "its agent has never reported",
        _ => "its agent has not answered yet",
    }
}

/// When the waiting of what was deleted at that time ends.
pub(crate) fn deadline(deleted: Option<Timestamp>, timeout: Duration) -> Option<Timestamp> {
    let wait = jiff::SignedDuration::try_from(timeout).unwrap_or(jiff::SignedDuration::MAX);
    deleted.map(|at| at.checked_add(wait).unwrap_or(Timestamp::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{at, cluster, node, object, policy, releasing, running, with_objects};

    #[test]
    fn a_node_is_asked_then_awaited_then_let_go() {
        assert_eq!(step(&running("a", "gold"), true, false), Step::Ask);
        assert_eq!(step(&releasing("a", "gold", false), true, false), Step::Wait);
        assert_eq!(step(&releasing("a", "gold", true), true, false), Step::Unhold);
        assert_eq!(step(&unheld(releasing("a", "gold", true)), true, false), Step::Delete);
    }

    #[test]
    fn what_somebody_deletes_is_released_first() {
        let going = |object: Object| Object { deleted: Some(at(0)), ..object };
        assert_eq!(step(&going(running("a", "gold")), true, false), Step::Ask);
        assert_eq!(step(&going(releasing("a", "gold", false)), true, false), Step::Wait);
        assert_eq!(step(&going(releasing("a", "gold", false)), true, true), Step::GiveUp);
        assert_eq!(step(&going(releasing("a", "gold", true)), true, false), Step::Unhold);
        assert_eq!(step(&unheld(going(running("a", "gold"))), true, true), Step::Wait);
    }

    #[test]
    fn the_object_of_a_node_that_is_gone_goes() {
        assert_eq!(step(&running("a", "gold"), false, false), Step::Unhold);
        assert_eq!(step(&unheld(running("a", "gold")), false, false), Step::Delete);
        let gone = Object { deleted: Some(at(0)), ..unheld(running("a", "gold")) };
        assert_eq!(step(&gone, false, false), Step::Wait);
    }

    fn unheld(object: Object) -> Object {
        Object { finalizers: vec!["somebody.else/s".into()], ..object }
    }

    #[test]
    fn a_release_reported_for_another_spec_does_not_count() {
        let mut stale = releasing("a", "gold", true);
        stale.generation = 5;
        for (seen, next) in
            [(None, Step::Wait), (Some(4), Step::Wait), (Some(5), Step::Unhold), (Some(6), Step::Wait)]
        {
            stale.status.conditions[1].observed_generation = seen;
            assert_eq!(step(&stale, true, false), next, "{seen:?}");
        }
    }

    #[test]
    fn released_without_being_asked_does_not_count() {
        let mut early = releasing("a", "gold", true);
        early.release_requested = false;
        assert_eq!(step(&early, true, false), Step::Ask);
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
        assert_eq!(deadline(gone.deleted, Duration::from_mins(1)), Some(at(60)));
        assert_eq!(deadline(None, Duration::from_mins(1)), None);
    }
}
