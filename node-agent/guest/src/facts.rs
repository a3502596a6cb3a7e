//! What the agent knows of a guest from elsewhere: the host's kernel.

use std::sync::Arc;

use overcommit_core::sample::{Incarnation, ProcessFacts};
use overcommit_core::units::Bytes;

/// Which guest is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    /// Its pod; absent on a host without Kubernetes.
    pub pod_uid: Option<&'a str>,
    /// The domain's UUID, in lower case.
    pub uuid: &'a str,
    /// The domain's name.
    pub domain: &'a str,
    /// Its full size.
    pub full: Bytes,
}

/// What the host says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostView {
    /// Its QEMU process.
    pub incarnation: Option<Incarnation>,
    /// UID of the VMI, where the process shows it.
    pub vmi_uid: Option<Arc<str>>,
    /// Its pod is of class Guaranteed.
    pub guaranteed: bool,
    /// The numbers.
    pub facts: ProcessFacts,
    /// Why something is missing, for people.
    pub trouble: Option<String>,
}

/// A guest that is known by its process alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evident {
    /// The domain's UUID, in lower case.
    pub uuid: Arc<str>,
    /// The domain's name as the process tells it, any text.
    pub domain: String,
    /// Its full size as the process tells it.
    pub full: Bytes,
    /// It has a virtio balloon.
    pub has_balloon: bool,
}

/// Says what the host knows of guests. Must not block.
pub trait Facts: Send {
    /// A new turn begins.
    fn begin_turn(&mut self) {}
    /// What is known of one guest.
    fn look(&mut self, who: &Who<'_>) -> HostView;
    /// Guests whose processes run in this pod, or outside of pods, whatever a hypervisor says of them.
    fn running(&mut self, _pod_uid: Option<&str>) -> Vec<Evident> {
        Vec::new()
    }
}

/// Knows nothing.
impl Facts for () {
    fn look(&mut self, _: &Who<'_>) -> HostView {
        HostView::default()
    }
}
