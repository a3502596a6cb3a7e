//! What the loop of a simulated node runs under: the policy of a file, and the guests that it covers, as the operator
//! would list them.

use std::sync::Arc;

use overcommit_core::policy::Policy;
use overcommit_core::roster::{Membership, Roster};
use overcommit_crds::classify::{Subject, classify};
use overcommit_crds::file::{self, FileError};
use overcommit_crds::policy::{ClassSpec, OvercommitPolicySpec};
use overcommit_crds::resolve;
use overcommit_crds::selector::Labels;

use crate::plant::Plant;

/// A policy that has been read and checked.
#[derive(Clone, Debug)]
pub struct Orders {
    /// Its name.
    pub name: String,
    pub(crate) policy: Policy,
    classes: Vec<ClassSpec>,
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
        Ok(Self { name, policy, classes: resolve::effective_classes(spec) })
    }

    /// What the core runs under.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    pub(crate) fn roster(&self, plant: &Plant) -> Roster {
        let none = Labels::new();
        Roster::by_pod(plant.pods().map(|(pod, name, guest)| {
            let namespace = Labels::from([(NAMESPACE_NAME.to_owned(), guest.group.namespace.clone())]);
            let subject = Subject {
                labels: &guest.group.labels,
                annotations: &none,
                namespace_labels: Some(&namespace),
                namespace_annotations: Some(&none),
            };
            let (class, excluded) = classify(&self.classes, &subject);
            let opt_out = excluded.map(resolve::opt_out);
            (pod, name, Membership { class: class.map(Arc::from), opt_out, migrating: false })
        }))
    }
}
