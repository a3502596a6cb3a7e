//! Which labels of nodes, namespaces and guests are kept: those that a policy's selector names, and ours. Nodes bear
//! hundreds of others, guests a dozen, and most of the operator's memory would go to them.
//!
//! Labels that were dropped are not there when a new policy asks for them. So whenever a key comes up, what was
//! listed without it counts as not listed, and is listed again.

use std::collections::BTreeSet;

use overcommit_crds::names::{
    KUBEVIRT_KSM_LABEL, KUBEVIRT_MIGRATION_TARGET_LABEL, KUBEVIRT_NODE_LABEL, KUBEVIRT_SCHEDULABLE_LABEL,
};
use overcommit_crds::selector::{Labels, Selector};

use crate::index::Index;
use crate::object::Policy;

/// A set of keys, and how many there were before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keys {
    /// Zero until the policies are known.
    pub(crate) epoch: u64,
    names: BTreeSet<String>,
}

impl Keys {
    /// Those that the policies need, if they are not among these. Keys of policies that are gone stay: listing again
    /// costs more than they do.
    pub(crate) fn grown(&self, index: &Index) -> Option<Self> {
        let ours = [
            KUBEVIRT_SCHEDULABLE_LABEL,
            KUBEVIRT_NODE_LABEL,
            KUBEVIRT_MIGRATION_TARGET_LABEL,
            KUBEVIRT_KSM_LABEL,
        ];
        let wanted = index.policies.values().flat_map(selectors).flat_map(keys).map(str::to_owned);
        let names: BTreeSet<String> =
            ours.into_iter().map(str::to_owned).chain(wanted).chain(self.names.iter().cloned()).collect();
        (names != self.names).then_some(Self { epoch: self.epoch + 1, names })
    }

    /// Drops all others.
    pub(crate) fn keep(&self, labels: &mut Labels) {
        labels.retain(|key, _| self.names.contains(key));
    }
}

fn selectors(policy: &Policy) -> impl Iterator<Item = &Selector> {
    policy.sound().into_iter().flat_map(|spec| {
        let classes = spec.classes.iter().flat_map(|c| c.selector.iter().chain(c.namespace_selector.iter()));
        spec.node_selector.iter().chain(classes)
    })
}

fn keys(selector: &Selector) -> impl Iterator<Item = &str> {
    let expressions = selector.match_expressions.iter().map(|e| e.key.as_str());
    selector.match_labels.keys().map(String::as_str).chain(expressions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{cluster, labels, policy_of, selecting};
    use overcommit_crds::OvercommitPolicySpec;
    use overcommit_crds::policy::ClassSpec;

    fn kept(keys: &Keys) -> Vec<String> {
        let pairs = ["pool", "tier", "team", "noise", KUBEVIRT_NODE_LABEL].map(|key| (key, "x"));
        let mut labels = labels(&pairs);
        keys.keep(&mut labels);
        labels.into_keys().collect()
    }

    #[test]
    fn what_a_selector_names_and_ours_is_kept() {
        let selector = |yaml: &str| Some(serde_saphyr::from_str(yaml).unwrap());
        let class = ClassSpec {
            selector: selector("{matchLabels: {tier: gold}}"),
            namespace_selector: selector("{matchExpressions: [{key: team, operator: Exists}]}"),
            ..ClassSpec::default()
        };
        let by_class = policy_of("b", OvercommitPolicySpec { classes: vec![class], ..Default::default() });
        let index = cluster(&[selecting("a", 0, &[("pool", "x")]), by_class], &[]);
        let keys = Keys::default().grown(&index).unwrap();
        assert_eq!(kept(&keys), [KUBEVIRT_NODE_LABEL, "pool", "team", "tier"]);
    }

    #[test]
    fn keys_come_and_never_go() {
        let none = Keys::default().grown(&cluster(&[], &[])).unwrap();
        assert_eq!((none.epoch, kept(&none).len()), (1, 1), "known, though no policy is there");
        assert_eq!(none.grown(&cluster(&[], &[])), None);
        let some = none.grown(&cluster(&[selecting("a", 0, &[("pool", "x")])], &[])).unwrap();
        assert_eq!((some.epoch, kept(&some).len()), (2, 2));
        assert_eq!(some.grown(&cluster(&[], &[])), None);
    }
}
