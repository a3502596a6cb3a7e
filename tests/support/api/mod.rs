//! The API tier: a real control plane without nodes, on loopback ports, for tests of CRDs, RBAC, admission and the
//! operator. It answers after about four seconds.

mod access;
mod control_plane;
mod identity;
mod pki;

use crate::parts::{KUBERNETES, testbed_sources};
use crate::session::Session;
use anyhow::{Context, Result, anyhow};
use std::net::TcpListener;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::OnceLock;

pub use access::Access;
pub use control_plane::{ControlPlane, Placement, SERVICE_ADDRESS};
pub use identity::Identity;
pub use pki::{Certificate, Pki};

/// A running API tier. Dropping it ends it. As an [`Access`] it is its administrator.
#[derive(Debug)]
pub struct Api {
    control_plane: ControlPlane,
    access: Access,
}

impl Api {
    /// The one that all tests of this process share; it ends with the process.
    pub fn shared() -> Result<&'static Self> {
        static SHARED: OnceLock<Result<Api, String>> = OnceLock::new();
        let start = || Self::start().map_err(|error| format!("{error:#}"));
        SHARED.get_or_init(start).as_ref().map_err(|error| anyhow!("the API tier did not start: {error}"))
    }

    /// Starts one of its own, for tests that stop or pause the API server.
    pub fn start() -> Result<Self> {
        let dir = Session::shared()?.fresh_dir("api")?;
        let placement = Placement {
            netns: None,
            bind: "127.0.0.1".into(),
            port: free_port()?,
            advertise: "127.0.0.1".into(),
            inside: "127.0.0.1".into(),
            outside: "127.0.0.1".into(),
            etcd_port: free_port()?,
            etcd_peer_port: free_port()?,
            extra_apiserver: Vec::new(),
            // There are no kubelets whose silence could mean anything.
            extra_controller_manager: vec![
                "--controllers=*,-node-lifecycle-controller,-taint-eviction-controller".into(),
            ],
            scheduler: false,
        };
        let control_plane = ControlPlane::start(&dir, placement)?;
        let access = control_plane.admin()?;
        Ok(Self { control_plane, access })
    }

    /// The processes behind it.
    pub fn control_plane(&self) -> &ControlPlane {
        &self.control_plane
    }

    /// Kills the API server; etcd keeps what it stored.
    pub fn stop_apiserver(&self) {
        self.control_plane.stop_apiserver();
    }

    /// Starts the API server again, at the same address.
    pub fn start_apiserver(&self) -> Result<()> {
        self.control_plane.start_apiserver()?;
        self.control_plane.wait_ready(&self.access)
    }

    /// Freezes the API server (SIGSTOP): connections stay open and nothing answers.
    pub fn pause_apiserver(&self) -> Result<()> {
        self.control_plane.pause_apiserver()
    }

    /// Lets a frozen API server run on.
    pub fn resume_apiserver(&self) -> Result<()> {
        self.control_plane.resume_apiserver()
    }

    /// Installs a CRD for `VirtualMachineInstance` (`kubevirt.io/v1`) that takes any content and, like the real one,
    /// has no status subresource.
    pub fn install_vmi_crd(&self) -> Result<()> {
        let path = testbed_sources().join("manifests/vmi-crd.yaml");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        self.access.apply(&text)?;
        self.access.wait_for("", "crd/virtualmachineinstances.kubevirt.io", "condition=Established", 20)
    }

    /// Folder of the Kubernetes commands.
    pub fn commands() -> Result<PathBuf> {
        KUBERNETES.ensure()
    }
}

impl Deref for Api {
    type Target = Access;
    fn deref(&self) -> &Access {
        &self.access
    }
}

/// A loopback port that nobody listens on. Somebody else may take it before it is used; the server's log says so.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free loopback port")?;
    Ok(listener.local_addr()?.port())
}
