//! What the loop runs under: a policy, the guests it covers, and what the cluster asks of this node.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;
use overcommit_core::policy::{Mode, Policy};
use overcommit_core::roster::{Membership, Roster};
use overcommit_core::sample::{GuestId, GuestName, Sample};
use overcommit_crds::classify::{Subject, classify};
use overcommit_crds::condition::rfc3339;
use overcommit_crds::node::{GuestEntry, NodeFacts, NodeOvercommitSpec};
use overcommit_crds::policy::{ClassSpec, OvercommitPolicySpec};
use overcommit_crds::resolve::{self, FieldError};
use overcommit_crds::selector::Labels;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Orders in force.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    /// The policy.
    pub(crate) policy: Policy,
    /// Its name.
    pub(crate) policy_name: String,
    /// What the operator calls this revision.
    pub(crate) revision: String,
    /// Take nothing: the node is paused, or these orders are withdrawn.
    pub(crate) paused: bool,
    /// Give everything back.
    pub(crate) release: bool,
    /// Where they come from.
    pub(crate) origin: Origin,
    /// Which version of which object they are; absent for a policy file.
    pub(crate) version: Option<Version>,
    /// Whether their object still stands.
    pub(crate) standing: Standing,
    /// Why the object's own policy is not the one in force.
    pub(crate) fault: Option<String>,
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

/// What became of the object that orders came from, in the API server's own words. Silence is no word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Standing {
    /// It stands.
    #[default]
    Stands,
    /// Somebody deletes it; the operator will ask for what was taken.
    Deleted,
    /// It is gone.
    Gone,
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
    /// Nowhere: there are none. What the journal knows is owed all the same.
    Journal {
        /// Since when.
        since: Timestamp,
    },
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
        standing: Standing,
        origin: Origin,
    ) -> Result<Self, Vec<FieldError>> {
        Ok(Self {
            policy: resolve::validate(&spec.resolved, "spec.resolved")?,
            policy_name: spec.policy.clone(),
            revision: spec.revision.clone(),
            // Nobody answers any more for what withdrawn orders take.
            paused: spec.paused || standing != Standing::Stands,
            release: spec.release,
            origin,
            version: Some(version),
            standing,
            fault: None,
            covered: Covered::Listed(resolve::roster(&spec.guests, spec.facts)),
        })
    }

    /// What holds of an object whose policy cannot work, for `fault`: whether to release and whether to take come before
    /// any policy. Nothing is taken under it, and `before` holds otherwise. Absent if the object says neither.
    pub(crate) fn without_policy(
        spec: &Value,
        fault: String,
        before: Option<&Self>,
        (version, standing, origin): (Version, Standing, Origin),
    ) -> Option<Self> {
        let says = |field: &str| spec.get(field) == Some(&Value::Bool(true));
        let release = says("release");
        if !release && !says("paused") && standing == Standing::Stands {
            return None;
        }
        let listed = |guests: &Value| Vec::<GuestEntry>::deserialize(guests).ok();
        let facts =
            spec.get("facts").and_then(|facts| NodeFacts::deserialize(facts).ok()).unwrap_or_default();
        let mut base = before.cloned().or_else(|| Self::empty(spec))?;
        if let Some(guests) = spec.get("guests").and_then(listed) {
            base.covered = Covered::Listed(resolve::roster(&guests, facts));
        }
        let (version, fault) = (Some(version), Some(fault));
        Some(Self { paused: true, release, origin, version, standing, fault, ..base })
    }

    /// What holds while there are none, since `since`: nothing is taken, and these guests, of which something was taken
    /// under orders that are lost, are given what they need. Nobody else is touched. Absent if the defaults cannot work.
    pub(crate) fn without_any(
        since: Timestamp,
        guests: impl IntoIterator<Item = (GuestId, Option<GuestName>)>,
    ) -> Option<Self> {
        let base = Self::empty(&Value::Null)?;
        let class = base.policy.classes.first().map(|class| Arc::clone(&class.name));
        let member = |(id, name): (GuestId, Option<GuestName>)| {
            let pod = id.pod()?;
            let name = name.unwrap_or_else(|| GuestName::unnamed(pod));
            let membership = Membership { class: class.clone(), opt_out: None, migrating: false };
            Some((Arc::from(pod), name, membership))
        };
        let covered = Covered::Listed(Roster::by_pod(guests.into_iter().filter_map(member)));
        Some(Self { paused: true, origin: Origin::Journal { since }, covered, ..base })
    }

    /// Orders that ask for nothing, under the names in `spec`.
    fn empty(spec: &Value) -> Option<Self> {
        let word = |field: &str| spec.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let orders = Self::from_file(&word("policy"), &OvercommitPolicySpec::default()).ok()?;
        // Observing would give everything back by itself.
        let policy = Policy { mode: Mode::Enforce, ..orders.policy };
        let covered = Covered::Listed(resolve::roster(&[], NodeFacts::default()));
        Some(Self { policy, revision: word("revision"), covered, ..orders })
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
            standing: Standing::Stands,
            fault: None,
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

    /// The guests that the node's object lists; absent on a host without Kubernetes.
    pub(crate) fn listed(&self) -> Option<&Roster> {
        match &self.covered {
            Covered::Listed(roster) => Some(roster),
            Covered::ByName(_) => None,
        }
    }

    /// Since when there are none in truth.
    pub(crate) fn missing_since(&self) -> Option<Timestamp> {
        match self.origin {
            Origin::Journal { since } => Some(since),
            Origin::Api | Origin::Cache | Origin::File => None,
        }
    }

    /// What is wrong with them, for people. Orders to release are meant to end with their object.
    pub(crate) fn trouble(&self) -> Option<Cow<'_, str>> {
        if let Some(since) = self.missing_since() {
            // What to do comes first: a condition shows no more.
            return Some(Cow::Owned(format!(
                "no orders since {}: let the agent reach the API server, and a policy select this node; guests in the \
                 journal are given what they need, and nothing is taken",
                rfc3339(since)
            )));
        }
        let withdrawn = match self.standing {
            Standing::Gone if !self.release => Some(
                "the NodeOvercommit of this node is gone: nothing is taken, and what was taken is given back \
                 as guests need it, until a policy selects the node again",
            ),
            Standing::Deleted if !self.release => Some(
                "the NodeOvercommit of this node is being deleted: nothing is taken; the operator is to ask for release",
            ),
            _ => None,
        };
        let fault = self.fault.as_ref().map(|why| {
            format!("the policy in the NodeOvercommit cannot work, the last good one holds: {why}").into()
        });
        withdrawn.map(Cow::Borrowed).or(fault)
    }

    /// True where guests are those of a host without Kubernetes.
    pub(crate) fn is_standalone(&self) -> bool {
        self.origin == Origin::File
    }
}
