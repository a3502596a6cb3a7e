//! Builders for the unit tests of the pure steps.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use overcommit_crds::condition::{Condition, rfc3339};
use overcommit_crds::names::{KUBEVIRT_NODE_LABEL, KUBEVIRT_SCHEDULABLE_LABEL, RELEASE_FINALIZER, condition};
use overcommit_crds::node::NodeOvercommitStatus;
use overcommit_crds::policy::{ConfigMapKeyRef, EngineSpec, MomSpec, SlotSpec};
use overcommit_crds::selector::{Labels, Selector};
use overcommit_crds::{NodeOvercommitSpec, OvercommitPolicySpec, OvercommitPolicyStatus, resolve};

use crate::index::{Change, Delta, Index};
use crate::maps::{Maps, Texts};
use crate::object::{Launcher, Meta, Object, Policy};
use crate::verdict::judge;

/// So many seconds after a fixed instant.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

pub(crate) fn policy_of(name: &str, spec: OvercommitPolicySpec) -> Policy {
    Policy {
        name: name.into(),
        uid: format!("uid-{name}"),
        version: "1".into(),
        generation: 1,
        created: at(0),
        deleted: None,
        finalizers: vec![RELEASE_FINALIZER.to_owned()],
        verdict: judge(name, &Ok(spec.clone()), &Maps::default()),
        written: Ok(spec),
        status: OvercommitPolicyStatus::default(),
    }
}

pub(crate) fn policy(name: &str, priority: i64) -> Policy {
    policy_of(name, OvercommitPolicySpec { priority, ..Default::default() })
}

pub(crate) fn selecting(name: &str, priority: i64, pairs: &[(&str, &str)]) -> Policy {
    let node_selector = Some(Selector { match_labels: labels(pairs), ..Default::default() });
    policy_of(name, OvercommitPolicySpec { priority, node_selector, ..Default::default() })
}

/// A policy of one slot, `50-main`, whose text is elsewhere.
pub(crate) fn program_from(map: &str, key: &str) -> OvercommitPolicySpec {
    let reference = ConfigMapKeyRef { name: map.into(), key: key.into() };
    let slot = SlotSpec { name: "50-main".into(), program: None, config_map_key_ref: Some(reference) };
    let engine = EngineSpec { adaptive: None, mom: Some(MomSpec { slots: vec![slot] }) };
    OvercommitPolicySpec { engine, ..Default::default() }
}

/// What a ConfigMap says by its keys.
pub(crate) fn map(pairs: &[(&str, &str)]) -> Texts {
    let keys: Vec<&str> = pairs.iter().map(|(key, _)| *key).collect();
    map_for(&keys, pairs)
}

/// What of a ConfigMap is known where policies name these keys.
pub(crate) fn map_for(keys: &[&str], pairs: &[(&str, &str)]) -> Texts {
    let map = ConfigMap { data: Some(labels(pairs)), ..Default::default() };
    Texts::of(&map, &keys.iter().map(|key| (*key).to_owned()).collect())
}

pub(crate) fn node(name: &str) -> Meta {
    labelled(name, &[(KUBEVIRT_SCHEDULABLE_LABEL, "false")])
}

pub(crate) fn labelled(name: &str, pairs: &[(&str, &str)]) -> Meta {
    Meta { name: name.into(), uid: format!("uid-{name}"), labels: labels(pairs), ..Default::default() }
}

pub(crate) fn guest(name: &str, node: &str) -> Meta {
    Meta { namespace: "shop".into(), ..labelled(name, &[(KUBEVIRT_NODE_LABEL, node)]) }
}

/// A pod of the guest `guest`, both in the namespace `shop`.
pub(crate) fn launcher(name: &str, guest: &str) -> Launcher {
    Launcher {
        namespace: "shop".into(),
        name: name.into(),
        uid: format!("uid-{name}"),
        guest: format!("uid-{guest}"),
        created: at(0),
    }
}

/// The object that a node has of a policy with default spec, without guests.
pub(crate) fn object(node: &str, policy: &str) -> Object {
    let resolved = resolve::resolve(&OvercommitPolicySpec::default());
    let spec = NodeOvercommitSpec {
        policy: policy.into(),
        revision: resolve::revision(&resolved),
        resolved,
        guests: vec![],
        facts: overcommit_crds::node::NodeFacts::default(),
        paused: false,
        release: false,
    };
    Object {
        name: node.into(),
        uid: format!("uid-noc-{node}"),
        version: "1".into(),
        generation: 1,
        label: Some(policy.into()),
        owner: Some(format!("uid-{node}")),
        finalizers: vec![RELEASE_FINALIZER.to_owned()],
        spec: Some(spec),
        ..Default::default()
    }
}

pub(crate) fn says(type_: &str, yes: bool, message: &str) -> Condition {
    Condition {
        type_: type_.into(),
        status: yes.into(),
        observed_generation: None,
        last_transition_time: rfc3339(at(0)),
        reason: "Test".into(),
        message: message.into(),
    }
}

/// An object whose agent runs it and is ready.
pub(crate) fn running(node: &str, policy: &str) -> Object {
    let object = object(node, policy);
    let observed_revision = object.spec.as_ref().map(|spec| spec.revision.clone());
    let conditions = vec![says(condition::READY, true, "")];
    let reported_at = Some(rfc3339(at(0)));
    Object {
        status: NodeOvercommitStatus { observed_revision, conditions, reported_at, ..Default::default() },
        ..object
    }
}

pub(crate) fn releasing(node: &str, policy: &str, released: bool) -> Object {
    let mut object = running(node, policy);
    object.release_requested = true;
    if let Some(spec) = &mut object.spec {
        spec.release = true;
    }
    let said = says(condition::RELEASED, released, "short 2 GiB");
    object.status.conditions.push(Condition { observed_generation: Some(object.generation), ..said });
    object
}

/// A cluster whose watches have all listed.
pub(crate) fn cluster(policies: &[Policy], nodes: &[Meta]) -> Index {
    let mut index = Index::default();
    index.take(Change::Policies(Delta::Replace(policies.to_vec())));
    index.take(Change::Nodes(Delta::Replace(nodes.to_vec())));
    index.take(Change::Objects(Delta::Replace(vec![])));
    index.take(Change::Namespaces(Delta::Replace(vec![labelled("shop", &[])])));
    index.take(Change::Guests(Delta::Replace(vec![])));
    index.take(Change::Launchers(Delta::Replace(vec![])));
    index
}

pub(crate) fn with_objects(mut index: Index, objects: &[Object]) -> Index {
    index.take(Change::Objects(Delta::Replace(objects.to_vec())));
    index
}

pub(crate) fn with_guests(mut index: Index, guests: &[Meta]) -> Index {
    index.take(Change::Guests(Delta::Replace(guests.to_vec())));
    index
}

pub(crate) fn with_launchers(mut index: Index, launchers: &[Launcher]) -> Index {
    index.take(Change::Launchers(Delta::Replace(launchers.to_vec())));
    index
}
