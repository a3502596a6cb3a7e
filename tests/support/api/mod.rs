//! The API tier: a real control plane without nodes, on loopback ports, for tests of CRDs, RBAC, admission and the
//! operator. It answers after about four seconds.

mod access;
mod control_plane;
mod identity;
mod pki;

use crate::guardian::Pending;
use crate::parts::{KUBERNETES, testbed_sources};
use crate::session::Session;
use crate::undo::Undo;
use anyhow::{Context, Result, anyhow};
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

pub use access::Access;
pub use control_plane::{ControlPlane, Placement, SERVICE_ADDRESS};
pub use identity::Identity;
pub use pki::{Certificate, Pki};

/// A running API tier. Dropping it ends it. As an [`Access`] it is its administrator.
#[derive(Debug)]
pub struct Api {
    // Dropped in this order: etcd alone keeps more than 100 MiB in the folder, and a binary starts a dozen of these.
    control_plane: ControlPlane,
    access: Access,
    _folder: Pending,
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
        let session = Session::shared()?;
        let dir = session.fresh_dir("api")?;
        let folder = session.undo_later(Undo::Remove(dir.clone()))?;
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
        Ok(Self { control_plane, access, _folder: folder })
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

    /// Has etcd forget what was before now.
    pub fn forget_history(&self) -> Result<()> {
        self.control_plane.forget_history()
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
        self.access.wait_established("virtualmachineinstances.kubevirt.io")
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

/// A loopback port that nobody listens on, and that nobody in this process is told again: some of them are used seconds later,
/// or anew after a pause. Somebody else may take it meanwhile; the server's log says so.
pub fn free_port() -> Result<u16> {
    static TOLD: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").context("no free loopback port")?;
        let port = listener.local_addr()?.port();
        if TOLD.lock().unwrap_or_else(PoisonError::into_inner).insert(port) {
            return Ok(port);
        }
    }
}
