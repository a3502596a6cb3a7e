//! Objects as the operator keeps them: pruned to what it uses, checked once, here, where they come in. An object that
//! cannot be read is kept with the reason, so that one bad object never stalls a watch.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{DynamicObject, PartialObjectMeta};
use overcommit_crds::names::{
    EXCLUDE_ANNOTATION, KUBEVIRT_KSM_ANNOTATION, PAUSE_ANNOTATION, POLICY_LABEL, RELEASE_FINALIZER,
};
use overcommit_crds::policy::ConfigMapKeyRef;
use overcommit_crds::selector::Labels;
use overcommit_crds::{
    NodeOvercommitSpec, NodeOvercommitStatus, OvercommitPolicySpec, OvercommitPolicyStatus, program,
};

use crate::maps::Maps;
use crate::verdict::{Checked, Verdict, Why, judge};

/// A node, a namespace or a guest: what its metadata says that matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    /// Namespace, empty for nodes and namespaces.
    pub(crate) namespace: String,
    /// Name.
    pub(crate) name: String,
    /// UID.
    pub(crate) uid: String,
    /// Labels that a selector names.
    pub(crate) labels: Labels,
    /// Annotations of ours, and KubeVirt's about KSM; all others are dropped.
    pub(crate) annotations: Labels,
}

impl Meta {
    /// Key in the index: `namespace/name`, or the name.
    pub(crate) fn key(&self) -> String {
        match self.namespace.as_str() {
            "" => self.name.clone(),
            namespace => format!("{namespace}/{}", self.name),
        }
    }

    /// True if the annotation says `"true"`.
    pub(crate) fn says(&self, annotation: &str) -> bool {
        self.annotations.get(annotation).is_some_and(|value| value == "true")
    }
}

impl From<PartialObjectMeta<DynamicObject>> for Meta {
    fn from(object: PartialObjectMeta<DynamicObject>) -> Self {
        let ObjectMeta { name, namespace, uid, labels, annotations, .. } = object.metadata;
        let mut annotations = annotations.unwrap_or_default();
        let kept = [EXCLUDE_ANNOTATION, PAUSE_ANNOTATION, KUBEVIRT_KSM_ANNOTATION];
        annotations.retain(|key, _| kept.contains(&key.as_str()));
        Self {
            namespace: namespace.unwrap_or_default(),
            name: name.unwrap_or_default(),
            uid: uid.unwrap_or_default(),
            labels: labels.unwrap_or_default(),
            annotations,
        }
    }
}

/// A launcher pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Launcher {
    /// Namespace.
    pub(crate) namespace: String,
    /// Name.
    pub(crate) name: String,
    /// UID.
    pub(crate) uid: String,
    /// UID of the guest that controls it; empty if none does.
    pub(crate) guest: String,
    /// When it was made.
    pub(crate) created: Timestamp,
}

impl Launcher {
    /// Key in the index: `namespace/name`.
    pub(crate) fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

impl From<PartialObjectMeta<DynamicObject>> for Launcher {
    fn from(object: PartialObjectMeta<DynamicObject>) -> Self {
        let ObjectMeta { name, namespace, uid, owner_references, creation_timestamp, .. } = object.metadata;
        let mut owners = owner_references.unwrap_or_default().into_iter();
        let guest = owners.find(|o| o.controller == Some(true) && o.kind == "VirtualMachineInstance");
        Self {
            namespace: namespace.unwrap_or_default(),
            name: name.unwrap_or_default(),
            uid: uid.unwrap_or_default(),
            guest: guest.map(|owner| owner.uid).unwrap_or_default(),
            created: creation_timestamp.map_or(Timestamp::MAX, |at| at.0),
        }
    }
}

/// A policy with everything that follows from its spec and the ConfigMaps that it names.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Policy {
    /// Name.
    pub(crate) name: String,
    /// UID.
    pub(crate) uid: String,
    /// Resource version, for writes that must not overwrite somebody else's.
    pub(crate) version: String,
    /// Generation of the spec.
    pub(crate) generation: i64,
    /// When it was made.
    pub(crate) created: Timestamp,
    /// When its deletion was asked for.
    pub(crate) deleted: Option<Timestamp>,
    /// All its finalizers.
    pub(crate) finalizers: Vec<String>,
    /// What people wrote, or why it cannot be read.
    pub(crate) written: Result<OvercommitPolicySpec, String>,
    /// What it asks for.
    pub(crate) verdict: Verdict,
    /// What was last reported of it.
    pub(crate) status: OvercommitPolicyStatus,
}

impl Policy {
    /// True if its deletion waits for us.
    pub(crate) fn held_by_us(&self) -> bool {
        self.finalizers.iter().any(|f| f == RELEASE_FINALIZER)
    }

    /// The checked spec, if it can work.
    pub(crate) fn checked(&self) -> Option<&Checked> {
        match &self.verdict {
            Verdict::Valid(checked) => Some(checked),
            Verdict::Stuck(_) | Verdict::Invalid { .. } => None,
        }
    }

    /// The spec as people wrote it, if all but its program is known to work.
    pub(crate) fn sound(&self) -> Option<&OvercommitPolicySpec> {
        match &self.verdict {
            Verdict::Valid(checked) => Some(&checked.spec),
            Verdict::Stuck(stuck) => Some(&stuck.spec),
            Verdict::Invalid { .. } => None,
        }
    }

    /// The same, judged by what these ConfigMaps say. Who names none was judged where it came in, and to read its program once
    /// more would say the same.
    pub(crate) fn judged(mut self, maps: &Maps) -> Self {
        if self.references().next().is_some() {
            self.judge(maps);
        }
        self
    }

    /// Judges it anew, by what these ConfigMaps say.
    pub(crate) fn judge(&mut self, maps: &Maps) {
        self.verdict = judge(&self.name, &self.written, maps);
    }

    /// The keys of ConfigMaps that it needs; of a policy that cannot work they may be no names.
    pub(crate) fn references(&self) -> impl Iterator<Item = &ConfigMapKeyRef> {
        let sound = self.written.as_ref().ok().filter(|_| self.sound().is_some());
        sound.into_iter().flat_map(program::references)
    }

    /// True if it needs the ConfigMap of this name.
    pub(crate) fn names(&self, map: &str) -> bool {
        self.references().any(|reference| reference.name == map)
    }

    /// True if nobody knows yet what its program says.
    pub(crate) fn is_unread(&self) -> bool {
        matches!(&self.verdict, Verdict::Stuck(stuck) if stuck.why == Why::Unread)
    }

    /// Priority; a policy that cannot even be read keeps what it has.
    pub(crate) fn priority(&self) -> i64 {
        match &self.verdict {
            Verdict::Valid(checked) => checked.spec.priority,
            Verdict::Stuck(stuck) => stuck.spec.priority,
            Verdict::Invalid { priority, .. } => priority.unwrap_or(i64::MAX),
        }
    }
}

impl From<DynamicObject> for Policy {
    fn from(object: DynamicObject) -> Self {
        let ObjectMeta {
            name,
            uid,
            resource_version,
            generation,
            creation_timestamp,
            deletion_timestamp,
            finalizers,
            ..
        } = object.metadata;
        let name = name.unwrap_or_default();
        let written = field(&object.data, "spec");
        let verdict = judge(&name, &written, &Maps::default());
        let mut status: OvercommitPolicyStatus = field(&object.data, "status").unwrap_or_default();
        // Their order means nothing, and the API server may change it.
        status.conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
        Self {
            name,
            uid: uid.unwrap_or_default(),
            version: resource_version.unwrap_or_default(),
            generation: generation.unwrap_or_default(),
            created: creation_timestamp.map_or(Timestamp::MAX, |at| at.0),
            deleted: deletion_timestamp.map(|at| at.0),
            finalizers: finalizers.unwrap_or_default(),
            written,
            verdict,
            status,
        }
    }
}

/// A part of an object; the default where it is missing.
fn field<T: serde::de::DeserializeOwned>(data: &serde_json::Value, name: &str) -> Result<T, String> {
    let part = data.get(name).cloned().unwrap_or_else(|| serde_json::json!({}));
    serde_json::from_value(part).map_err(|e| format!("{name}: {e}"))
}

/// A `NodeOvercommit`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Object {
    /// Name, which is the node's.
    pub(crate) name: String,
    /// UID.
    pub(crate) uid: String,
    /// Resource version.
    pub(crate) version: String,
    /// Generation of the spec.
    pub(crate) generation: i64,
    /// When somebody asked for its deletion.
    pub(crate) deleted: Option<Timestamp>,
    /// All its finalizers.
    pub(crate) finalizers: Vec<String>,
    /// The policy by its label.
    pub(crate) label: Option<String>,
    /// UID of the Node that owns it.
    pub(crate) owner: Option<String>,
    /// The spec asks for release.
    pub(crate) release_requested: bool,
    /// The spec, where it can be read.
    pub(crate) spec: Option<NodeOvercommitSpec>,
    /// What the agent reports; empty where it cannot be read.
    pub(crate) status: NodeOvercommitStatus,
}

impl Object {
    /// True if its deletion waits for us.
    pub(crate) fn held_by_us(&self) -> bool {
        self.finalizers.iter().any(|f| f == RELEASE_FINALIZER)
    }

    /// The policy that it comes from: by its spec, else by its label.
    pub(crate) fn policy(&self) -> &str {
        let by_label = || self.label.as_deref().unwrap_or_default();
        self.spec.as_ref().map_or_else(by_label, |spec| spec.policy.as_str())
    }
}

impl From<DynamicObject> for Object {
    fn from(object: DynamicObject) -> Self {
        let ObjectMeta {
            name,
            uid,
            resource_version,
            generation,
            deletion_timestamp,
            finalizers,
            labels,
            owner_references,
            ..
        } = object.metadata;
        let spec: Option<NodeOvercommitSpec> = field(&object.data, "spec").ok();
        let mut status: NodeOvercommitStatus = field(&object.data, "status").unwrap_or_default();
        // People read these; nothing here follows from them.
        status.top_guests = Vec::new();
        status.last_actions = Vec::new();
        let owner = owner_references.unwrap_or_default().into_iter().find(|owner| owner.kind == "Node");
        Self {
            name: name.unwrap_or_default(),
            uid: uid.unwrap_or_default(),
            version: resource_version.unwrap_or_default(),
            generation: generation.unwrap_or_default(),
            deleted: deletion_timestamp.map(|at| at.0),
            finalizers: finalizers.unwrap_or_default(),
            label: labels.and_then(|mut labels| labels.remove(POLICY_LABEL)),
            owner: owner.map(|owner| owner.uid),
            // Also of a spec that cannot be read otherwise.
            release_requested: object.data.pointer("/spec/release") == Some(&serde_json::Value::Bool(true)),
            spec,
            status,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed<T: From<DynamicObject>>(yaml: &str) -> T {
        let object: DynamicObject = serde_saphyr::from_str(yaml).unwrap();
        T::from(object)
    }

    #[test]
    fn a_spec_of_the_wrong_shape_is_kept_with_its_error() {
        let policy: Policy = parsed("{metadata: {name: p}, spec: {interval: 7}}");
        assert!(
            matches!(&policy.verdict, Verdict::Invalid { errors, priority: None } if errors.contains("spec"))
        );
        let policy: Policy = parsed("{metadata: {name: p}, spec: {interval: 9h, priority: 3}}");
        assert_eq!(policy.priority(), 3);
        assert!(
            matches!(&policy.verdict, Verdict::Invalid { errors, .. } if errors.contains("spec.interval"))
        );
    }

    #[test]
    fn a_status_from_a_newer_agent_does_not_hide_the_spec() {
        let object: Object =
            parsed("{metadata: {name: a, labels: {overcommit.dev/policy: gold}}, status: 7}");
        assert_eq!(object.policy(), "gold");
        assert_eq!(object.status, NodeOvercommitStatus::default());
    }

    #[test]
    fn a_spec_that_cannot_be_read_still_says_whether_release_was_asked_for() {
        for release in [true, false] {
            let spec = format!("{{policy: gold, resolved: {{mode: Turbo}}, release: {release}}}");
            let object: Object = parsed(&format!("{{metadata: {{name: a}}, spec: {spec}}}"));
            assert_eq!((object.spec, object.release_requested), (None, release));
        }
    }

    #[test]
    fn only_annotations_of_ours_are_kept() {
        let yaml = "{metadata: {name: n, annotations: {overcommit.dev/paused: 'true', big: text}}}";
        let object: PartialObjectMeta<DynamicObject> = serde_saphyr::from_str(yaml).unwrap();
        let meta = Meta::from(object);
        assert_eq!(meta.annotations.len(), 1);
        assert!(meta.says(PAUSE_ANNOTATION));
    }
}
