//! Which policy holds on which node: the highest priority, then the oldest, then the first by name.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use overcommit_crds::names::KUBEVIRT_SCHEDULABLE_LABEL;

use crate::index::Index;
use crate::object::{Meta, Policy, Verdict};

/// Who holds what.
#[derive(Debug, Default)]
pub(crate) struct Selection<'a> {
    holders: BTreeMap<&'a str, &'a Policy>,
    claims: BTreeMap<&'a str, Claim<'a>>,
}

/// What one policy selects and gets.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Claim<'a> {
    /// Nodes that it holds on, in order.
    pub(crate) held: Vec<&'a str>,
    /// How many nodes it selects and does not get, by the policy that holds there.
    pub(crate) lost: BTreeMap<&'a str, usize>,
}

impl Claim<'_> {
    /// How many nodes it selects.
    pub(crate) fn selected(&self) -> usize {
        self.held.len() + self.lost.values().sum::<usize>()
    }
}

impl<'a> Selection<'a> {
    /// Decides for every node. Policies that are being deleted hold nothing.
    pub(crate) fn of(index: &'a Index) -> Self {
        let mut ranked: Vec<&Policy> = index.policies.values().filter(|p| p.deleted.is_none()).collect();
        ranked.sort_by_key(|p| (Reverse(p.priority()), p.created, p.name.as_str()));
        let mut selection = Self::default();
        for policy in &ranked {
            selection.claims.insert(&policy.name, Claim::default());
        }
        for (name, node) in &index.nodes {
            let mut takers = ranked.iter().filter(|policy| selects(policy, node, index));
            let Some(holder) = takers.next() else { continue };
            selection.holders.insert(name, holder);
            selection.claim(&holder.name).held.push(name);
            for loser in takers {
                *selection.claim(&loser.name).lost.entry(&holder.name).or_default() += 1;
            }
        }
        selection
    }

    fn claim(&mut self, policy: &'a str) -> &mut Claim<'a> {
        self.claims.entry(policy).or_default()
    }

    /// The policy that holds on a node.
    pub(crate) fn holder(&self, node: &str) -> Option<&'a Policy> {
        self.holders.get(node).copied()
    }

    /// What a policy selects and gets.
    pub(crate) fn claim_of(&self, policy: &str) -> Claim<'a> {
        self.claims.get(policy).cloned().unwrap_or_default()
    }
}

/// A policy that cannot work any more keeps the nodes that it has, as they are, and gets no others.
fn selects(policy: &Policy, node: &Meta, index: &Index) -> bool {
    match &policy.verdict {
        Verdict::Valid(checked) => match &checked.spec.node_selector {
            Some(selector) => selector.matches(&node.labels),
            None => node.labels.contains_key(KUBEVIRT_SCHEDULABLE_LABEL),
        },
        Verdict::Invalid { .. } => {
            index.objects.get(&node.name).is_some_and(|o| o.policy() == policy.name && !o.release_requested)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{at, cluster, labelled, node, object, policy, policy_of, selecting, with_objects};
    use overcommit_crds::OvercommitPolicySpec;
    use overcommit_crds::quantity::Period;

    fn holder<'a>(index: &'a Index, node: &str) -> Option<&'a str> {
        Selection::of(index).holder(node).map(|p| p.name.as_str())
    }

    #[test]
    fn without_a_selector_nodes_that_run_kubevirt_are_meant_whatever_the_labels_value() {
        let index = cluster(&[policy("gold", 0)], &[node("a"), labelled("b", &[])]);
        assert_eq!(holder(&index, "a"), Some("gold"));
        assert_eq!(holder(&index, "b"), None);
    }

    #[test]
    fn a_selector_alone_decides() {
        let index =
            cluster(&[selecting("gold", 0, &[("pool", "x")])], &[node("a"), labelled("b", &[("pool", "x")])]);
        assert_eq!(holder(&index, "a"), None);
        assert_eq!(holder(&index, "b"), Some("gold"));
    }

    #[test]
    fn priority_wins_then_age_then_name() {
        let older = Policy { created: at(-5), ..policy("z-older", 1) };
        let nodes = [node("a")];
        assert_eq!(holder(&cluster(&[policy("a", 0), policy("b", 1)], &nodes), "a"), Some("b"));
        assert_eq!(holder(&cluster(&[policy("b", 1), older.clone()], &nodes), "a"), Some("z-older"));
        assert_eq!(holder(&cluster(&[policy("c", 1), policy("b", 1)], &nodes), "a"), Some("b"));
    }

    #[test]
    fn a_loser_knows_to_whom_it_lost_how_many() {
        let index = cluster(
            &[policy("wide", 0), selecting("narrow", 5, &[("pool", "x")])],
            &[node("a"), labelled("b", &[("pool", "x"), (KUBEVIRT_SCHEDULABLE_LABEL, "true")])],
        );
        let claim = Selection::of(&index).claim_of("wide");
        assert_eq!(claim.held, ["a"]);
        assert_eq!(claim.lost, BTreeMap::from([("narrow", 1)]));
        assert_eq!(claim.selected(), 2);
    }

    #[test]
    fn a_policy_that_is_being_deleted_holds_nothing() {
        let gone = Policy { deleted: Some(at(0)), ..policy("gone", 9) };
        assert_eq!(holder(&cluster(&[gone, policy("next", 0)], &[node("a")]), "a"), Some("next"));
    }

    #[test]
    fn an_invalid_policy_keeps_its_nodes_and_gets_no_others() {
        let spec = OvercommitPolicySpec { interval: Period("9h".into()), ..Default::default() };
        let index =
            with_objects(cluster(&[policy_of("bad", spec)], &[node("a"), node("b")]), &[object("a", "bad")]);
        assert_eq!(holder(&index, "a"), Some("bad"));
        assert_eq!(holder(&index, "b"), None);
    }
}
