//! What the loop runs under: a policy, the guests it covers, and what the cluster asks of this node.

use std::borrow::Cow;
use std::sync::Arc;

use overcommit_core::policy::Policy;
use overcommit_core::roster::{Membership, Roster};
use overcommit_core::sample::Sample;
use overcommit_crds::classify::{Subject, classify};
use overcommit_crds::node::NodeOvercommitSpec;
use overcommit_crds::policy::{ClassSpec, OvercommitPolicySpec};
use overcommit_crds::resolve::{self, FieldError};
use overcommit_crds::selector::Labels;
use serde::{Deserialize, Serialize};

/// Orders in force.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    /// The policy.
    pub(crate) policy: Policy,
    /// Its name.
    pub(crate) policy_name: String,
    /// What the operator calls this revision.
    pub(crate) revision: String,
    /// Take nothing.
    pub(crate) paused: bool,
    /// Give everything back.
    pub(crate) release: bool,
    /// Where they come from.
    pub(crate) origin: Origin,
    /// Which version of which object they are; absent for a policy file.
    pub(crate) version: Option<Version>,
    covered: Covered,
}

/// One version of one NodeOvercommit. An object that was deleted and made anew counts its generations from 1 again, so
/// the generation alone says nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Version {
    /// The object's UID.
    pub(crate) uid: String,
    /// Its `metadata.generation`.
    pub(crate) generation: i64,
}

/// Where orders come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The API server, now.
    Api,
    /// The node's disk: the API server has not answered since the agent started.
    Cache,
    /// A policy file.
    File,
}

#[derive(Clone, Debug)]
enum Covered {
    Listed(Roster),
    ByName(Vec<ClassSpec>),
}

impl Orders {
    /// Orders from a NodeOvercommit.
    ///
    /// # Errors
    /// Fields that cannot work.
    pub(crate) fn from_node(
        spec: &NodeOvercommitSpec,
        version: Version,
        origin: Origin,
    ) -> Result<Self, Vec<FieldError>> {
        Ok(Self {
            policy: resolve::validate(&spec.resolved, "spec.resolved")?,
            policy_name: spec.policy.clone(),
            revision: spec.revision.clone(),
            paused: spec.paused,
            release: spec.release,
            origin,
            version: Some(version),
            covered: Covered::Listed(resolve::roster(&spec.guests)),
        })
    }

    /// Orders from a policy file.
    ///
    /// # Errors
    /// Fields that cannot work.
    pub(crate) fn from_file(name: &str, spec: &OvercommitPolicySpec) -> Result<Self, Vec<FieldError>> {
        Ok(Self {
            policy: resolve::check(spec)?,
            policy_name: name.to_owned(),
            revision: resolve::revision(&resolve::resolve(spec)),
            paused: false,
            release: false,
            origin: Origin::File,
            version: None,
            covered: Covered::ByName(resolve::effective_classes(spec)),
        })
    }

    /// The guests of `sample` that the policy covers. Without Kubernetes a guest's only label is its `name`.
    pub(crate) fn roster(&self, sample: &Sample) -> Cow<'_, Roster> {
        let classes = match &self.covered {
            Covered::Listed(roster) => return Cow::Borrowed(roster),
            Covered::ByName(classes) => classes,
        };
        Cow::Owned(Roster::by_name(sample.guests.iter().map(|guest| {
            let labels = Labels::from([("name".to_owned(), guest.name.name.to_string())]);
            let subject = Subject {
                labels: &labels,
                annotations: &Labels::new(),
                namespace_labels: None,
                namespace_annotations: None,
            };
            let (class, excluded) = classify(classes, &subject);
            let membership = Membership {
                class: class.map(Arc::from),
                opt_out: excluded.map(resolve::opt_out),
                migrating: false,
            };
            (guest.name.clone(), membership)
        })))
    }

    /// True where guests are those of a host without Kubernetes.
    pub(crate) fn is_standalone(&self) -> bool {
        self.origin == Origin::File
    }
}
