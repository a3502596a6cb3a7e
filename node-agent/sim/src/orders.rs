//! What the loop of a simulated node runs under: the policy of a file, and the guests that it covers, as the operator
//! would list them.

use std::sync::Arc;

use overcommit_core::policy::Policy;
use overcommit_core::roster::{Membership, OptOut, Roster};
use overcommit_crds::classify::{Subject, classify};
use overcommit_crds::file::{self, FileError};
use overcommit_crds::policy::{ClassSpec, OvercommitPolicySpec};
use overcommit_crds::resolve;
use overcommit_crds::selector::Labels;

use crate::plant::Plant;
use crate::scenario::{Group, Scenario};

/// A policy that has been read and checked.
#[derive(Clone, Debug)]
pub struct Orders {
    /// Its name.
    pub name: String,
    pub(crate) policy: Policy,
    classes: Vec<ClassSpec>,
    doubts: Vec<String>,
}

/// Label of each namespace by which selectors find it by its name (`LabelMetadataName`,
/// `staging/src/k8s.io/api/core/v1/well_known_labels.go`).
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

impl Orders {
    /// Reads a policy file.
    ///
    /// # Errors
    /// What is wrong, where, and what to do.
    pub fn read(bytes: &[u8]) -> Result<Self, FileError> {
        let object = file::read(bytes)?;
        let name = object.metadata.name.unwrap_or_else(|| "unnamed".to_owned());
        Self::of(name, &object.spec)
    }

    fn of(name: String, spec: &OvercommitPolicySpec) -> Result<Self, FileError> {
        let policy = resolve::check(spec).map_err(FileError::Refused)?;
        let mut doubts = resolve::doubts(spec);
        if spec.node_selector.is_some() {
            doubts.push(
                "spec.nodeSelector selects nothing here: the policy holds on the simulated node".to_owned(),
            );
        }
        Ok(Self { name, policy, classes: resolve::effective_classes(spec), doubts })
    }

    /// What the core runs under.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What of it does nothing for these guests, or is probably not meant: each a sentence.
    pub fn doubts(&self, scenario: &Scenario) -> Vec<String> {
        let mut doubts = self.doubts.clone();
        let memory = scenario.host.memory.0;
        if self.policy.reserve.minimum.of(memory) >= memory {
            doubts.push(
                "spec.reserve.minimum keeps all that the node has: nothing is left to give or to take"
                    .to_owned(),
            );
        }
        let outside = scenario.guests.iter().filter(|group| self.class_of(group).0.is_none());
        let (names, count) = outside.fold((Vec::new(), 0_u64), |(mut names, count), group| {
            names.push(group.name.as_str());
            (names, count.saturating_add(group.count.into()))
        });
        if count > 0 {
            doubts.push(format!("{count} guests match no class and are left alone: {}", names.join(", ")));
        }
        doubts
    }

    /// The class that a guest of this group has, and why it must not be touched.
    fn class_of(&self, group: &Group) -> (Option<String>, Option<OptOut>) {
        let none = Labels::new();
        let namespace = Labels::from([(NAMESPACE_NAME.to_owned(), group.namespace.clone())]);
        let subject = Subject {
            labels: &group.labels,
            annotations: &none,
            namespace_labels: Some(&namespace),
            namespace_annotations: Some(&none),
        };
        let (class, excluded) = classify(&self.classes, &subject);
        (class.map(str::to_owned), excluded.map(resolve::opt_out))
    }

    pub(crate) fn roster(&self, plant: &Plant) -> Roster {
        Roster::by_pod(plant.pods().map(|(pod, name, guest)| {
            let (class, opt_out) = self.class_of(&guest.group);
            (pod, name, Membership { class: class.map(Arc::from), opt_out, migrating: false })
        }))
    }
}
