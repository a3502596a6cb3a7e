//! A node with orders at a real API server, and what its agent may do there.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use overcommit_crds::OvercommitPolicySpec;
use overcommit_crds::node::GuestEntry;
use overcommit_crds::policy::Mode;
use overcommit_crds::quantity::{Period, SizeOrPercent};
use overcommit_crds::resolve::resolve;
use serde_json::json;

use super::cluster::NODE;
use crate::api::{Access, Api, Identity};
use crate::chart;
use crate::wait::until;

/// Where the chart is installed.
pub const SYSTEM: &str = "overcommit-system";
/// Until a schema that was just installed answers.
const SOON: Duration = Duration::from_mins(2);

/// An API server of its own with the chart installed, and the access of one node's agent.
pub struct OrderedNode {
    /// The API server.
    pub api: Api,
    /// With a token as the agent's pod on the node has it.
    pub access: Access,
}

impl OrderedNode {
    /// Starts it; there are no orders yet.
    ///
    /// # Errors
    /// When something does not start.
    pub fn start() -> Result<Self> {
        let api = Api::start()?;
        api.install_vmi_crd()?;
        let chart = chart::folder();
        let chart = chart.to_str().context("the path of the chart is not UTF-8")?;
        api.helm(&["install", "overcommit", chart, "--namespace", SYSTEM, "--create-namespace"])?;
        api.wait_established("nodeovercommits.overcommit.dev")?;
        let who = Identity { namespace: SYSTEM, name: "overcommit-agent", node: Some(NODE) };
        let access = api.as_service_account(who)?;
        Ok(Self { api, access })
    }

    /// The node's orders, as the operator would write them.
    ///
    /// # Errors
    /// When the API server does not take them.
    pub fn order(&self, policy: &OvercommitPolicySpec, guests: &[GuestEntry]) -> Result<()> {
        let object = json!({"apiVersion": "overcommit.dev/v1alpha1", "kind": "NodeOvercommit",
            "metadata": {"name": NODE},
            "spec": {"policy": "p", "revision": "r", "resolved": resolve(policy), "guests": guests}});
        until(SOON, "the node's orders", || self.api.apply(&object.to_string()))?;
        Ok(())
    }

    /// How the agent gets there.
    pub fn kubeconfig(&self) -> &Path {
        self.access.kubeconfig_path()
    }
}

/// A policy that enforces, decides every 2 s, and keeps so many MiB for the node.
pub fn enforcing(kept_mib: u64) -> OvercommitPolicySpec {
    let interval = Period("2s".to_owned());
    let mut policy =
        OvercommitPolicySpec { mode: Mode::Enforce, interval, ..OvercommitPolicySpec::default() };
    policy.reserve.minimum = SizeOrPercent(format!("{kept_mib}Mi"));
    policy
}

/// A guest of the namespace `shop` in this pod, as orders list it.
pub fn entry(name: &str, pod: &str) -> GuestEntry {
    GuestEntry {
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        uid: name.to_owned(),
        pods: vec![pod.to_owned()],
        class: Some("default".to_owned()),
        excluded: None,
        migrating: false,
    }
}
