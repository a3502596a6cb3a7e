//! `NodeOvercommit`: what the operator hands to one node, and what the node's agent reports.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::policy::{
    CLASSES_MAX, EngineSpec, FloorSpec, INLINE_HELP, KSM_WITHOUT_PROGRAM, KsmSpec, LimitsSpec, Mode,
    ReserveSpec,
};
use crate::quantity::{Period, Size};

/// One node's policy, resolved, with the guests that the API server knows there. Written by the operator; people
/// read it.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "overcommit.dev",
    version = "v1alpha1",
    kind = "NodeOvercommit",
    plural = "nodeovercommits",
    singular = "nodeovercommit",
    shortname = "noc",
    category = "overcommit",
    status = "NodeOvercommitStatus",
    derive = "PartialEq",
    doc = "One node's resolved policy, and what its agent does and why.",
    printcolumn(name = "Policy", type_ = "string", json_path = ".spec.policy"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.resolved.mode"),
    printcolumn(name = "Guests", type_ = "integer", json_path = ".status.guests.total"),
    printcolumn(
        name = "Budget",
        type_ = "string",
        json_path = ".status.ledger.budget",
        description = "What this node may promise to its guests"
    ),
    printcolumn(
        name = "Promised",
        type_ = "string",
        json_path = ".status.ledger.promised",
        description = "What its guests may touch"
    ),
    printcolumn(
        name = "Reclaimed",
        type_ = "string",
        json_path = ".status.ledger.reclaimed",
        description = "Taken from guests now; what would be taken while observing"
    ),
    printcolumn(name = "Shortfall", type_ = "string", json_path = ".status.ledger.shortfall"),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", priority = "1")
)]
#[serde(rename_all = "camelCase")]
pub struct NodeOvercommitSpec {
    /// The policy that this comes from.
    pub policy: String,
    /// Hash of `resolved`.
    pub revision: String,
    /// What the node runs.
    pub resolved: ResolvedPolicy,
    /// Guests on this node as the API server knows them. A guest that the agent sees and that is not listed here
    /// is charged, not touched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub guests: Vec<GuestEntry>,
    /// What else of this node only the API server knows.
    #[serde(default, skip_serializing_if = "NodeFacts::is_default")]
    pub facts: NodeFacts,
    /// Take nothing from any guest; giving goes on. Set by the annotation `overcommit.dev/paused` on the Node.
    #[serde(default)]
    pub paused: bool,
    /// Give everything back and report the condition Released.
    #[serde(default)]
    pub release: bool,
}

/// What the API server knows of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeFacts {
    /// Who manages the kernel's merging of equal pages (KSM) there: then the agent does not. KubeVirt says so by the label
    /// `kubevirt.io/ksm-enabled` and the annotation `kubevirt.io/ksm-handler-managed` of the Node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ksm_manager: Option<KsmManager>,
}

impl NodeFacts {
    /// Nothing is known.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Who manages KSM on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KsmManager {
    /// KubeVirt's virt-handler (`ksmConfiguration` of the KubeVirt object).
    KubeVirt,
}

/// A policy as a node runs it: without what only the cluster can decide.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(self.engine.mom) || self.engine.mom.slots.all(slot, has(slot.program))",
        "message": INLINE_HELP,
        "fieldPath": ".engine"
    },
    {
        "rule": "!has(self.ksm) || !has(self.ksm.mode) || self.ksm.mode != 'Program' || has(self.engine.mom)",
        "message": KSM_WITHOUT_PROGRAM,
        "fieldPath": ".ksm"
    }
]))]
#[serde(rename_all = "camelCase")]
pub struct ResolvedPolicy {
    /// Observe or Enforce.
    pub mode: Mode,
    /// How often the node decides about taking.
    pub interval: Period,
    /// Classes by name; which guest is in which class stands with the guest.
    // As many as a policy may have: without the bound the API server refuses the CEL rules below as too expensive.
    #[schemars(length(max = CLASSES_MAX), extend("x-kubernetes-list-type" = "atomic"))]
    pub classes: Vec<ResolvedClass>,
    /// What decides. The slots of a program have all their text here, in the order in which they run; parameters are a slot among
    /// them.
    pub engine: EngineSpec,
    /// What the node keeps free.
    pub reserve: ReserveSpec,
    /// How fast memory may be taken.
    pub limits: LimitsSpec,
    /// Merging of equal pages by the kernel (KSM); absent where the policy leaves it alone.
    #[serde(default, skip_serializing_if = "KsmSpec::is_default")]
    pub ksm: KsmSpec,
}

/// A class without its selectors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedClass {
    /// Name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// What a guest of this class always keeps.
    pub floor: FloorSpec,
    /// Share when there is not enough for all.
    #[schemars(range(min = 1, max = 10_000))]
    pub weight: i64,
    /// Leave its guests alone.
    #[serde(default)]
    pub exclude: bool,
}

/// One guest as the API server knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GuestEntry {
    /// Namespace.
    pub namespace: String,
    /// Name of the VirtualMachineInstance.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// UIDs of its launcher pods that have not ended: two while it migrates. The agent knows a guest by the pod that
    /// the kernel says it runs in; one whose pod is not listed is charged, not touched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub pods: Vec<String>,
    /// The class that matched first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Why it is left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excluded: Option<Exclusion>,
    /// It is about to migrate or migrating.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub migrating: bool,
}

/// Why a guest is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Exclusion {
    /// The annotation `overcommit.dev/exclude` on it or its namespace.
    Annotation,
    /// Its class says so.
    Class,
    /// No class matches it.
    NoClass,
}

/// What the agent reports; at most 4 KiB.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeOvercommitStatus {
    /// The revision that the agent runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_revision: Option<String>,
    /// Version of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_version: Option<String>,
    /// When this was measured, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported_at: Option<String>,
    /// What the node has promised and could survive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<LedgerStatus>,
    /// How the node suffers from want of memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pressure: Option<PressureStatus>,
    /// Merging of equal pages by the kernel (KSM); absent where the policy leaves it alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ksm: Option<KsmStatus>,
    /// Guests by state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guests: Option<GuestCounts>,
    /// The ten guests that matter most: those that hurt, then those with the largest takes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), extend("x-kubernetes-list-type" = "atomic"))]
    pub top_guests: Vec<GuestStatus>,
    /// The last things done, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), extend("x-kubernetes-list-type" = "atomic"))]
    pub last_actions: Vec<ActionStatus>,
    /// Ready, Degraded, Released.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// The node's account, in whole Mi.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LedgerStatus {
    /// `MemTotal`.
    pub total: Size,
    /// What may be promised to guests: total less huge pages, eviction line, reserve, everything that is no guest
    /// and what that may grow.
    pub budget: Size,
    /// What the guests may touch, with the overhead of their hypervisors.
    pub promised: Size,
    /// What their processes hold in RAM.
    pub resident: Size,
    /// Taken from guests now; while observing, what would be taken.
    pub reclaimed: Size,
    /// What could still be taken without cost to any working set.
    pub reclaimable: Size,
    /// Saved by KSM.
    pub merged: Size,
    /// With swap: what could become resident before the loop can react.
    pub at_risk: Size,
    /// What the node could not give if every guest touched all it may.
    pub shortfall: Size,
}

/// Share of the last 10 s lost to memory stalls (PSI), in hundredths of a percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PressureStatus {
    /// At least one task stalled.
    pub some_avg10: i64,
    /// All tasks stalled.
    pub full_avg10: i64,
}

/// Merging of equal pages by the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KsmStatus {
    /// It scans; while observing, it would.
    pub scanning: bool,
    /// Why, in one word.
    pub reason: String,
    /// Why, in one sentence.
    pub message: String,
    /// What it saves now. No part of the budget.
    pub merged: Size,
    /// The same less what the kernel needs for it; absent before Linux 6.4, and 0 where it costs more than it saves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profit: Option<Size>,
    /// Share of one CPU that it took lately, in hundredths of a percent; absent where that cannot be seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<i64>,
}

/// Guests by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GuestCounts {
    /// All that the node's hypervisors list.
    pub total: i64,
    /// Hold less than their full size by our doing; while observing, would hold.
    pub squeezed: i64,
    /// In distress.
    pub distressed: i64,
    /// Left alone, for whatever reason.
    pub exempt: i64,
    /// Whose hypervisor does not answer, or whose statistics are stale or missing.
    pub blind: i64,
    /// Whose balloon does not do what it is told, or says what its process denies: charged at full size.
    #[serde(default)]
    pub unbelieved: i64,
}

/// One guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GuestStatus {
    /// `namespace/name`.
    pub name: String,
    /// Full size.
    pub full: Size,
    /// Balloon target; while observing, what it would be.
    pub target: Size,
    /// What the guest holds.
    pub actual: Size,
    /// Below this nothing is taken.
    pub floor: Size,
    /// Why, in one word.
    pub reason: String,
    /// Why, in one sentence.
    pub message: String,
}

/// One thing done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActionStatus {
    /// When, RFC 3339.
    pub at: String,
    /// `namespace/name`.
    pub guest: String,
    /// Target before.
    pub from: Size,
    /// Target after.
    pub to: Size,
    /// Why, in one word.
    pub reason: String,
}
