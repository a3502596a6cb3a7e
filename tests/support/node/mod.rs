//! The node tier: a whole Kubernetes with one or two nodes and real `KubeVirt`, in namespaces of its own.
//!
//! Everything ends with this process: the nodes' namespaces with all pods and mounts, the network, the cgroups.

mod cgroups;
mod detached;
mod fabric;
mod kubevirt;
mod machine;
mod store;
mod vm;

use crate::api::{Access, ControlPlane, Placement, SERVICE_ADDRESS};
use crate::parts::{CONTAINERD, HELM, KUBERNETES, Part, Progress, command};
use crate::session::Session;
use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::ops::Deref;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use fabric::Fabric;
use machine::Node;

pub use detached::Detached;
pub use store::IMAGE_STORE;
pub use vm::{Launcher, VmSpec};

/// Every part that a cluster uses.
pub static PARTS: &[&Part] = &[&KUBERNETES, &CONTAINERD, &HELM, &IMAGE_STORE];

/// Steps of a start, with what they take on two cores; most of the last are `KubeVirt`'s own phases and probes.
const STEPS: [(&str, Duration); 4] = [
    ("control plane, container runtime", Duration::from_secs(5)),
    ("KubeVirt's operator", Duration::from_secs(2)),
    ("kubelet", Duration::from_secs(3)),
    ("KubeVirt", Duration::from_secs(65)),
];

/// What a cluster is to be like.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClusterSpec {
    /// How many nodes, 1 or 2; they are called `node1` and `node2`.
    pub nodes: u8,
    /// Merged into `spec.configuration` of the `KubeVirt` resource; none for a cluster without `KubeVirt`.
    pub kubevirt: Option<Value>,
}

impl Default for ClusterSpec {
    fn default() -> Self {
        Self { nodes: 1, kubevirt: Some(json!({})) }
    }
}

impl ClusterSpec {
    fn progress(&self) -> Progress {
        let steps = if self.kubevirt.is_some() { STEPS.len() } else { STEPS.len() - 1 };
        Progress::begin("cluster: step", STEPS.into_iter().take(steps).collect())
    }
}

/// A node as others see it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeFacts {
    /// The node's name in the cluster.
    pub name: String,
    /// Process 1 of the node, as the machine numbers it: `nsenter --target PID --mount --pid --net` is a shell there.
    pub init_pid: u32,
}

/// A running cluster. As an [`Access`] it is its administrator. Dropping it ends it, unless it is a detached one.
#[derive(Debug)]
pub struct Cluster {
    access: Access,
    nodes: Vec<NodeFacts>,
    owned: Option<Owned>,
}

/// What this process started. Dropped in this order.
#[derive(Debug)]
struct Owned {
    nodes: Vec<Node>,
    plane: ControlPlane,
    fabric: Fabric,
}

impl Cluster {
    /// The one that all tests of this process share: one node, `KubeVirt` deployed.
    pub fn shared() -> Result<&'static Self> {
        static SHARED: OnceLock<Result<Cluster, String>> = OnceLock::new();
        let start = || Self::start(&ClusterSpec::default()).map_err(|error| format!("{error:#}"));
        SHARED.get_or_init(start).as_ref().map_err(|error| anyhow!("the node tier did not start: {error}"))
    }

    /// Starts a cluster, showing how far it is; returns when its nodes are ready and `KubeVirt` is deployed.
    pub fn start(spec: &ClusterSpec) -> Result<Self> {
        crate::parts::ensure_all(PARTS)?;
        let progress = spec.progress();
        Self::start_telling(spec, &|step| progress.enter(step))
    }

    /// Starts a cluster whose parts are there; tells each of [`STEPS`] before it is taken.
    fn start_telling(spec: &ClusterSpec, tell: &dyn Fn(usize)) -> Result<Self> {
        let mut owned = Owned::start(spec.nodes)?;
        let access = owned.plane.admin()?;
        if let Some(configuration) = &spec.kubevirt {
            tell(1);
            kubevirt::install(&access, configuration)?;
        }
        tell(2);
        owned.start_kubelets()?;
        for node in &owned.nodes {
            machine::admit(&access, node.name())?;
        }
        if spec.kubevirt.is_some() {
            tell(3);
            kubevirt::wait_deployed(&access)?;
        }
        let facts = |node: &Node| NodeFacts { name: node.name().into(), init_pid: node.init_pid() };
        Ok(Self { access, nodes: owned.nodes.iter().map(facts).collect(), owned: Some(owned) })
    }

    /// The nodes.
    pub fn nodes(&self) -> &[NodeFacts] {
        &self.nodes
    }

    /// The control plane, where this process started it.
    pub fn control_plane(&self) -> Option<&ControlPlane> {
        self.owned.as_ref().map(|owned| &owned.plane)
    }

    /// Process 1 of a node as the machine numbers it.
    pub fn node_pid(&self, node: &str) -> Result<u32> {
        let found = self.nodes.iter().find(|candidate| candidate.name == node);
        Ok(found.with_context(|| format!("no node {node}"))?.init_pid)
    }

    /// A command that runs as a process of a node.
    pub fn on_node(&self, node: &str, program: impl AsRef<OsStr>) -> Result<Command> {
        Ok(machine::command_on(self.node_pid(node)?, program))
    }

    /// Imports an OCI archive into every node's image store.
    pub fn import_image(&self, archive: &Path) -> Result<()> {
        let ctr = CONTAINERD.file("ctr")?;
        for node in &self.nodes {
            let mut import = self.on_node(&node.name, &ctr)?;
            import
                .args(["--namespace", "k8s.io", "images", "import", "--snapshotter", "overlayfs"])
                .arg(archive);
            command::output(&mut import)?;
        }
        Ok(())
    }

    /// Ends a cluster that this process started; says what could not be cleaned up.
    pub fn stop(self) -> Result<()> {
        self.owned.map_or(Ok(()), Owned::stop)
    }
}

impl Owned {
    fn start(nodes: u8) -> Result<Self> {
        let dir = Session::shared()?.fresh_dir("cluster")?;
        let fabric = Fabric::start()?;
        // containerd and the control plane need nothing of each other.
        std::thread::scope(|scope| {
            let plane = scope.spawn(|| ControlPlane::start(&dir, placement(&fabric)));
            let started: Result<Vec<Node>> =
                (1..=nodes).map(|number| Node::start(&format!("node{number}"), number, &fabric)).collect();
            let plane = plane.join().map_err(|_| anyhow!("starting the control plane panicked"))?;
            Ok((started?, plane?))
        })
        .map(|(nodes, plane)| Self { nodes, plane, fabric })
    }

    fn start_kubelets(&mut self) -> Result<()> {
        for (number, node) in (1..).zip(&mut self.nodes) {
            node.start_kubelet(number, &self.fabric, &self.plane)?;
        }
        Ok(())
    }

    fn stop(self) -> Result<()> {
        for node in self.nodes {
            node.stop()?;
        }
        drop(self.plane);
        self.fabric.stop()
    }
}

impl Deref for Cluster {
    type Target = Access;
    fn deref(&self) -> &Access {
        &self.access
    }
}

fn placement(fabric: &Fabric) -> Placement {
    Placement {
        netns: Some(fabric.netns()),
        bind: "0.0.0.0".into(),
        // Pods use the service's address and port, and nobody translates them.
        port: 443,
        advertise: SERVICE_ADDRESS.into(),
        inside: SERVICE_ADDRESS.into(),
        outside: fabric.address(),
        etcd_port: 2379,
        etcd_peer_port: 2380,
        extra_apiserver: Vec::new(),
        extra_controller_manager: Vec::new(),
        scheduler: true,
    }
}
