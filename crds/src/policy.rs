//! `OvercommitPolicy`: what people write.

mod limits;
mod mom;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use limits::DEAD_BAND_HELP;
pub use limits::LimitsSpec;
pub use mom::{
    BLANK_HELP, ConfigMapKeyRef, MomSpec, Number, PARAMETERS_SLOT, PROGRAM_MAX, Parameters, SLOTS_MAX,
    SlotSpec,
};
pub(crate) use mom::{
    CONFIG_MAP_NAME_HELP, KEY_HELP, NAME_MAX as SLOT_NAME_MAX, NUMBER_HELP, PARAMETER_NAME_HELP,
    PARAMETERS_MAX, PARAMETERS_SLOT_HELP, SLOT_NAME_HELP, SLOT_SOURCE_HELP,
};

use crate::condition::Condition;
use crate::quantity::{Period, Size, SizeOrPercent};
use crate::selector::Selector;

/// Longest name of a policy: the operator labels each node's object with it
/// (apimachinery/pkg/util/validation, `LabelValueMaxLength`).
pub const NAME_MAX: usize = 63;
/// What is told about a longer one.
pub const NAME_HELP: &str = "metadata.name: choose a name of at most 63 characters: it becomes the value of a label on each node's NodeOvercommit";
/// Most classes of a policy: beyond it the API server takes the rules of the schema for too costly.
pub(crate) const CLASSES_MAX: usize = 32;
pub(crate) const ENGINE_HELP: &str = "name exactly one engine: write engine: {adaptive: {}} or engine: {mom: {slots: [{name: …, program: …}]}}; where adaptive was stored before, take it away with adaptive: null";
pub(crate) const INLINE_HELP: &str = "the text of each slot stands under program here";
pub(crate) const PARAMETERS_UNREAD: &str =
    "the adaptive engine reads none: remove them, or name the program that reads them in engine.mom";
pub(crate) const KSM_WITHOUT_PROGRAM: &str =
    "mode Program needs a program in engine.mom that sets ksm_run: write Auto or \"Off\", or give one";
pub(crate) const CLASS_NAME_HELP: &str =
    "write lower-case letters, digits and dashes, with a letter or digit at both ends, such as gold";

/// How the memory of a set of nodes is overcommitted: which guests may give memory, down to which floor, how fast,
/// and what each node keeps free. Starts in Observe: nothing is touched until `mode` says Enforce.
#[derive(CustomResource, JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "overcommit.dev",
    version = "v1alpha1",
    kind = "OvercommitPolicy",
    plural = "overcommitpolicies",
    singular = "overcommitpolicy",
    shortname = "ocp",
    category = "overcommit",
    status = "OvercommitPolicyStatus",
    derive = "PartialEq",
    doc = "How the memory of a set of nodes is overcommitted.",
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(
        name = "Nodes",
        type_ = "integer",
        json_path = ".status.nodes.selected",
        description = "Nodes that this policy holds on"
    ),
    printcolumn(
        name = "Ready",
        type_ = "integer",
        json_path = ".status.nodes.ready",
        description = "Nodes whose agent does what this policy asks for"
    ),
    printcolumn(
        name = "Reclaimed",
        type_ = "string",
        json_path = ".status.memory.reclaimed",
        description = "Taken from guests now; what would be taken while observing"
    ),
    printcolumn(
        name = "Shortfall",
        type_ = "string",
        json_path = ".status.memory.shortfall",
        description = "What the nodes could not give if every guest touched all it may"
    ),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(self.parameters) || size(self.parameters) == 0 || (has(self.engine) && has(self.engine.mom))",
        "message": PARAMETERS_UNREAD,
        "fieldPath": ".parameters"
    },
    {
        "rule": format!("!has(self.parameters) || size(self.parameters) == 0 || !has(self.engine) || !has(self.engine.mom) || size(self.engine.mom.slots) < {SLOTS_MAX}"),
        "message": PARAMETERS_SLOT_HELP,
        "fieldPath": ".engine.mom.slots"
    },
    {
        "rule": "!has(self.ksm) || !has(self.ksm.mode) || self.ksm.mode != 'Program' || (has(self.engine) && has(self.engine.mom))",
        "message": KSM_WITHOUT_PROGRAM,
        "fieldPath": ".ksm"
    }
]))]
#[serde(rename_all = "camelCase", default)]
pub struct OvercommitPolicySpec {
    /// Observe reports what would be done and gives back whatever was taken before; Enforce does it.
    pub mode: Mode,
    /// The nodes that this policy is for. Left out: every node that runs KubeVirt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<Selector>,
    /// Where several policies select a node the highest priority holds, then the oldest, then the first by name.
    #[schemars(range(min = -1_000_000, max = 1_000_000))]
    pub priority: i64,
    /// Kinds of guests, in order: the first that matches a guest holds for it. A guest that none matches is left
    /// alone. Left out: one class for every guest.
    #[schemars(length(max = CLASSES_MAX), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub classes: Vec<ClassSpec>,
    /// How often the node decides about taking. Giving does not wait for it.
    pub interval: Period,
    /// What decides; exactly one. Left out: the adaptive engine.
    pub engine: EngineSpec,
    /// Values of variables of a program, by name: they become the slot 01-parameters with a line (set NAME VALUE) for each, which
    /// takes its place among the other slots. A slot before it must define each of them.
    #[serde(skip_serializing_if = "Parameters::is_empty")]
    #[schemars(schema_with = "mom::parameters_schema")]
    pub parameters: Parameters,
    /// What a node keeps free for itself.
    pub reserve: ReserveSpec,
    /// How fast memory may be taken, and what is too little to bother.
    pub limits: LimitsSpec,
    /// Merging of equal pages by the kernel (KSM).
    pub ksm: KsmSpec,
}

/// What the policy may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// Report what would be done.
    #[default]
    Observe,
    /// Do it.
    Enforce,
}

/// One kind of guests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClassSpec {
    /// Name, unique within the policy: lower-case letters, digits and dashes.
    #[schemars(length(min = 1, max = 63), extend("x-kubernetes-validations" = [{
        "rule": "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
        "message": CLASS_NAME_HELP
    }]))]
    pub name: String,
    /// Labels of the guest's namespace. Left out: every namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<Selector>,
    /// Labels of the VirtualMachineInstance. Left out: every guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
    /// What a guest of this class always keeps: the highest of all that are given here, of its working set with
    /// headroom, and of its pod's memory request. KubeVirt requests all of a guest's memory unless told otherwise: then
    /// nothing can be taken.
    #[serde(default)]
    pub floor: FloorSpec,
    /// Share of a guest of this class when there is not enough for all.
    #[serde(default = "default_weight")]
    #[schemars(range(min = 1, max = 10_000))]
    pub weight: i64,
    /// Leave the guests of this class alone.
    #[serde(default)]
    pub exclude: bool,
}

/// What a guest always keeps: the highest of all that are given here, of its working set with headroom, and of its
/// pod's memory request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FloorSpec {
    /// At least this part of the guest's full size, in percent.
    #[schemars(range(min = 0, max = 100))]
    pub percent: i64,
    /// At least this much, such as 512Mi; a number of bytes alone in quotes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Size>,
    /// Guests may hold less than their pod's memory request. The scheduler promised that memory: say true only
    /// where you know what you do. Better, let pods request less (KubeVirt's memoryOvercommit, overcommitPercent of an
    /// instance type, or explicit requests).
    pub below_request: bool,
}

/// What decides; exactly one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.adaptive) != has(self.mom)",
    "message": ENGINE_HELP
}]))]
#[serde(rename_all = "camelCase")]
pub struct EngineSpec {
    /// Takes unused memory first, then page cache, never below the floor; gives to whoever hurts, at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adaptive: Option<AdaptiveSpec>,
    /// A program in MOM's policy language decides what guests are to have (docs/mom.md).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mom: Option<MomSpec>,
}

/// How the adaptive engine divides memory. What each of these trades, with pictures: docs/parameters.md.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AdaptiveSpec {
    /// A guest is given memory while this part of what it has is still usable, in percent; left out: 25. With less of it guests
    /// that grow fast are outrun; with more, less is left to give to those who grow.
    #[serde(skip_serializing_if = "AdaptiveSpec::is_usual_headroom")]
    #[schemars(range(min = 15, max = 50))]
    pub headroom_percent: i64,
    /// Where guests need more than the node has and take turns: for how long one has all that it wants before another may take its
    /// place, in seconds; left out: 120. Longer turns lose less time to swapping, and who waits waits longer.
    #[serde(skip_serializing_if = "AdaptiveSpec::is_usual_turn")]
    #[schemars(range(min = 30, max = 1800))]
    pub turn_seconds: i64,
}

impl AdaptiveSpec {
    #[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
    fn is_usual_headroom(percent: &i64) -> bool {
        *percent == Self::default().headroom_percent
    }

    #[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
    fn is_usual_turn(seconds: &i64) -> bool {
        *seconds == Self::default().turn_seconds
    }
}

/// What a node keeps free for itself, above what the kubelet keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ReserveSpec {
    /// At least this much, such as 2Gi or 5%; 100% is the node's memory. A number of bytes alone in quotes.
    pub minimum: SizeOrPercent,
    /// Memory of everything that is no guest grows, and with swap so does what guests hold in RAM. Be ready for this
    /// percentile of what it rose within one reaction, looked at in each of the last 720 intervals. A reaction is one
    /// interval, and the time within which three quarters of the guests' balloons follow, as measured.
    #[schemars(range(min = 50, max = 100))]
    pub growth_percentile: i64,
}

/// Merging of equal pages by the kernel (KSM). What it saves is never part of the budget: it comes apart as guests write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct KsmSpec {
    /// "Off" (in quotes, or YAML takes it for false) leaves it alone, and puts back what was set before. Auto runs it while it saves
    /// more than it costs, no faster than that. Program does what the program of engine.mom says by its controls `ksm_run` and so on.
    /// Both leave it to whoever else manages it on a node.
    pub mode: KsmMode,
    /// Merge guests of different namespaces with each other. Whoever can measure how long a write takes learns from it which
    /// pages others have: say true only where all namespaces trust each other. Otherwise it runs on a node only while all
    /// its guests are of one namespace.
    pub across_namespaces: bool,
}

impl KsmSpec {
    /// As where nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What is done about merging.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KsmMode {
    /// Nothing.
    #[default]
    Off,
    /// It runs while it pays.
    Auto,
    /// It does what the program says.
    Program,
}

fn default_weight() -> i64 {
    100
}

impl Default for ClassSpec {
    /// The class that a policy without classes has: everything.
    fn default() -> Self {
        Self {
            name: "default".to_owned(),
            namespace_selector: None,
            selector: None,
            floor: FloorSpec::default(),
            weight: default_weight(),
            exclude: false,
        }
    }
}

impl Default for FloorSpec {
    /// A quarter: a Linux guest squeezed below that spends its time in reclaim whatever its working set seems to be.
    fn default() -> Self {
        Self { percent: 25, bytes: None, below_request: false }
    }
}

impl Default for EngineSpec {
    fn default() -> Self {
        Self { adaptive: Some(AdaptiveSpec::default()), mom: None }
    }
}

impl Default for AdaptiveSpec {
    fn default() -> Self {
        Self { headroom_percent: 25, turn_seconds: 120 }
    }
}

impl Default for ReserveSpec {
    fn default() -> Self {
        Self { minimum: SizeOrPercent("5%".to_owned()), growth_percentile: 99 }
    }
}

/// What the operator reports of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OvercommitPolicyStatus {
    /// The generation that the rest speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Hash of what the nodes are given; changes when the spec means something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Nodes by state.
    #[serde(default)]
    pub nodes: NodeCounts,
    /// Sums over the nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemorySums>,
    /// Accepted, Progressing, Ready, Degraded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Nodes by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeCounts {
    /// Nodes that this policy holds on.
    pub selected: i64,
    /// Of these, nodes whose agent runs the current revision.
    pub updated: i64,
    /// Of these, nodes whose agent is ready.
    pub ready: i64,
    /// Of these, nodes whose agent works with limits.
    pub degraded: i64,
}

/// Memory summed over the nodes of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemorySums {
    /// What all guests may touch, with the overhead of their hypervisors.
    pub promised: Size,
    /// What their processes hold in RAM.
    pub resident: Size,
    /// Taken from guests now; while observing, what would be taken.
    pub reclaimed: Size,
    /// Saved by KSM now.
    pub merged: Size,
    /// What could still be taken without cost to any working set.
    pub reclaimable: Size,
    /// With swap: what could become resident before the loop can react.
    pub at_risk: Size,
    /// What the nodes could not give if every guest touched all it may.
    pub shortfall: Size,
}
