//! A real guest under a libvirt of its own in a pod of its own, as in KubeVirt's launchers, without a Kubernetes.

use anyhow::Result;

use crate::guests::{Guest, GuestSpec, Hypervisor};
use crate::pod::Pod;
use crate::session::Session;

/// `oom_score_adj` of a container that requested next to nothing.
const SCORE: &str = "999";

/// A guest in a pod. Dropped in this order.
#[derive(Debug)]
pub struct Launcher {
    /// The guest.
    pub guest: Guest,
    hypervisor: Hypervisor,
    _pod: Pod,
}

impl Launcher {
    /// Starts the guest in a pod of this UID; it boots on.
    ///
    /// # Errors
    /// When something does not start.
    pub fn start(uid: &str, spec: &GuestSpec) -> Result<Self> {
        let mut pod = Pod::new(uid)?;
        pod.run(&Session::shared()?.fresh_dir("pod")?, "virt-launcher", &[], SCORE)?;
        let hypervisor = Hypervisor::start()?;
        // Before its guest, whose process is in the pod then.
        pod.take_in(hypervisor.daemon_pid(), SCORE)?;
        let guest = hypervisor.define_and_start(spec)?;
        pod.take_in(guest.qemu_pid()?, SCORE)?;
        Ok(Self { guest, hypervisor, _pod: pod })
    }

    /// What a client of its libvirt connects to.
    pub fn uri(&self) -> &str {
        self.hypervisor.uri()
    }

    /// What the guest holds by its balloon, in MiB.
    ///
    /// # Errors
    /// When its hypervisor does not say.
    pub fn holds_mib(&self) -> Result<u64> {
        Ok(self.guest.memory_stats()?.actual_kib / 1024)
    }
}
