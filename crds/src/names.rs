//! Every string that is part of the API: group, labels, annotations, finalizers, condition types and reasons.

/// API group of all our kinds.
pub const GROUP: &str = "overcommit.dev";
/// API version served and stored.
pub const VERSION: &str = "v1alpha1";

/// On a VMI or a namespace: `"true"` keeps its guests untouched, whatever any policy says.
pub const EXCLUDE_ANNOTATION: &str = "overcommit.dev/exclude";
/// On a Node: `"true"` stops all taking there; giving goes on.
pub const PAUSE_ANNOTATION: &str = "overcommit.dev/paused";
/// On an OvercommitPolicy: holds its deletion until its nodes have given everything back. On a NodeOvercommit: until its
/// node has, or is gone.
pub const RELEASE_FINALIZER: &str = "overcommit.dev/release";
/// On a NodeOvercommit: the policy that it comes from.
pub const POLICY_LABEL: &str = "overcommit.dev/policy";

/// On nodes that run virt-handler. The operator selects by its existence: its value turns `false` whenever
/// virt-handler stops, which must not take a node out of control (pkg/virt-handler, kubevirt/kubevirt).
pub const KUBEVIRT_SCHEDULABLE_LABEL: &str = "kubevirt.io/schedulable";
/// On a VMI: the node that it runs on (staging/src/kubevirt.io/api/core/v1/types.go).
pub const KUBEVIRT_NODE_LABEL: &str = "kubevirt.io/nodeName";
/// On a VMI while it migrates: the node that it goes to.
pub const KUBEVIRT_MIGRATION_TARGET_LABEL: &str = "kubevirt.io/migrationTargetNodeName";

/// On a Node, written by virt-handler each cycle: `"true"` where KubeVirt's own KSM manager may act
/// (pkg/virt-handler/ksm/ksm.go, kubevirt/kubevirt).
pub const KUBEVIRT_KSM_LABEL: &str = "kubevirt.io/ksm-enabled";
/// On a Node: `"true"` while KubeVirt has KSM running there; it stops it once more after the label turned `false`.
pub const KUBEVIRT_KSM_ANNOTATION: &str = "kubevirt.io/ksm-handler-managed";

/// On a launcher pod: what it is; its controller is the VMI (pkg/virt-controller/services/template.go, `podLabels`).
/// Its label `kubevirt.io/nodeName` is no help: a migration's target is made with the source's node in it.
pub const KUBEVIRT_LAUNCHER_LABEL: (&str, &str) = ("kubevirt.io", "virt-launcher");

/// Field manager of the operator's writes.
pub const OPERATOR_MANAGER: &str = "overcommit-operator";
/// Field manager of an agent's writes.
pub const AGENT_MANAGER: &str = "overcommit-agent";

/// Condition types.
pub mod condition {
    /// The policy is valid and at least one node takes it.
    pub const ACCEPTED: &str = "Accepted";
    /// A change has not reached all nodes yet.
    pub const PROGRESSING: &str = "Progressing";
    /// It does what the spec asks for.
    pub const READY: &str = "Ready";
    /// It works with limits that the message names.
    pub const DEGRADED: &str = "Degraded";
    /// Everything taken was given back.
    pub const RELEASED: &str = "Released";
}
