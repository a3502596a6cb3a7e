//! Which policy holds on which node: the highest priority, then the oldest, then the first by name.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use overcommit_crds::names::KUBEVIRT_SCHEDULABLE_LABEL;
use overcommit_crds::{NodeOvercommitSpec, OvercommitPolicySpec, resolve};

use crate::index::Index;
use crate::object::{Meta, Object, Policy};
use crate::verdict::{Verdict, Why};

/// Objects whose hash is looked at: after an upgrade those of thousands of nodes may have been hashed otherwise.
const HASHED: usize = 8;

/// Who holds what.
#[derive(Debug, Default)]
pub(crate) struct Selection<'a> {
    holders: BTreeMap<&'a str, &'a Policy>,
    claims: BTreeMap<&'a str, Claim<'a>>,
    /// Of policies whose program cannot run what was good last, from one of their nodes.
    good: BTreeMap<&'a str, &'a NodeOvercommitSpec>,
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
            if let Some(spec) = last_good(policy, index) {
                selection.good.insert(&policy.name, spec);
            }
        }
        for (name, node) in &index.nodes {
            let takers: Vec<_> =
                ranked.iter().filter(|policy| selection.selects(policy, node, index)).collect();
            let mut takers = takers.into_iter();
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

    /// What was good last of a policy whose program cannot run.
    pub(crate) fn last_good(&self, policy: &str) -> Option<&'a NodeOvercommitSpec> {
        self.good.get(policy).copied()
    }

    /// A policy that cannot work any more keeps the nodes that it has, as they are, and gets no others. One whose program
    /// alone is to blame selects as always, if there is something good to give.
    fn selects(&self, policy: &Policy, node: &Meta, index: &Index) -> bool {
        match &policy.verdict {
            Verdict::Valid(checked) => wants(&checked.spec, node),
            // What its ConfigMaps say is known in a moment: until then nothing new is given on what was good before.
            Verdict::Stuck(stuck)
                if stuck.why != Why::Unread && self.good.contains_key(policy.name.as_str()) =>
            {
                wants(&stuck.spec, node)
            }
            Verdict::Stuck(_) | Verdict::Invalid { .. } => index
                .objects
                .get(&node.name)
                .is_some_and(|o| o.policy() == policy.name && !o.release_requested),
        }
    }

    /// What a policy selects and gets.
    pub(crate) fn claim_of(&self, policy: &str) -> Claim<'a> {
        self.claims.get(policy).cloned().unwrap_or_default()
    }
}

fn wants(spec: &OvercommitPolicySpec, node: &Meta) -> bool {
    match &spec.node_selector {
        Some(selector) => selector.matches(&node.labels),
        None => node.labels.contains_key(KUBEVIRT_SCHEDULABLE_LABEL),
    }
}

/// What the nodes of a policy were given last: the revision that its status names, if a node has it, else what one has. All state
/// is in the API, so this outlives the operator. What somebody edited there, so that its hash is wrong, counts for nothing; nor
/// does what a former policy of that name has left, for a policy that was never given to a node has no revision in its status.
fn last_good<'a>(policy: &Policy, index: &'a Index) -> Option<&'a NodeOvercommitSpec> {
    if !matches!(policy.verdict, Verdict::Stuck(_)) || policy.status.revision.is_none() {
        return None;
    }
    let stays = |o: &&Object| !o.release_requested && o.deleted.is_none();
    let of_it = || {
        let specs = index.objects.values().filter(stays).filter_map(|o| o.spec.as_ref());
        specs.filter(|spec| spec.policy == policy.name)
    };
    let sound = |spec: &&NodeOvercommitSpec| is_sound(spec);
    let told = of_it().filter(|spec| Some(&spec.revision) == policy.status.revision.as_ref());
    told.chain(of_it()).take(HASHED).find(sound)
}

/// It is what an operator gave: its hash is right.
pub(crate) fn is_sound(spec: &NodeOvercommitSpec) -> bool {
    resolve::revision(&spec.resolved) == spec.revision
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
