//! What one turn reads from the host and its guests, before any judgement.
//!
//! Absence is `Option`; a reader reports what it saw and never substitutes a value.

mod host;

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};

use crate::stranger::Stranger;
use crate::units::{Bytes, Monotonic};

pub use host::{HostCounters, HostMemory, HostSample, Ksm, Pressure};

/// Identity of one guest for as long as its hypervisor connection's domain exists: in a cluster
/// `<pod uid>/<domain uuid>`, so that no tenant can claim another's; standalone the domain's uuid.
///
/// A turn with 110 guests compares some ten thousand of them. Nearly always their first bytes tell them apart, for they are of
/// random UIDs, and those are compared as one number.
#[derive(Eq, Deserialize)]
#[serde(from = "Arc<str>")]
pub struct GuestId {
    /// Its first bytes as a number, which orders as they do.
    head: u64,
    text: Arc<str>,
}

impl GuestId {
    /// An identity from its text.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        let text = text.into();
        let head = text.bytes().chain(std::iter::repeat(0)).take(8);
        Self { head: head.fold(0, |head, byte| (head << 8) | u64::from(byte)), text }
    }
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
    /// UID of the pod in which it runs, as its cgroup says; absent without Kubernetes.
    pub fn pod(&self) -> Option<&str> {
        self.text.split_once('/').map(|(pod, _)| pod)
    }
}

impl Clone for GuestId {
    fn clone(&self) -> Self {
        Self { head: self.head, text: Arc::clone(&self.text) }
    }

    fn clone_from(&mut self, newer: &Self) {
        self.head = newer.head;
        renew(&mut self.text, &newer.text);
    }
}

/// The same text again costs nothing; counting who shares it does, where that is done of every guest each turn.
fn renew(text: &mut Arc<str>, newer: &Arc<str>) {
    if !Arc::ptr_eq(text, newer) {
        text.clone_from(newer);
    }
}

impl Ord for GuestId {
    fn cmp(&self, other: &Self) -> Ordering {
        let is_same = self.head == other.head && Arc::ptr_eq(&self.text, &other.text);
        if is_same { Ordering::Equal } else { (self.head, &self.text).cmp(&(other.head, &other.text)) }
    }
}

impl PartialEq for GuestId {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Hash for GuestId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl PartialOrd for GuestId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl From<Arc<str>> for GuestId {
    fn from(text: Arc<str>) -> Self {
        Self::new(text)
    }
}

impl Serialize for GuestId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl fmt::Debug for GuestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GuestId").field(&self.text).finish()
    }
}

impl fmt::Display for GuestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A guest's name as people know it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GuestName {
    /// Kubernetes namespace; absent on a host without Kubernetes.
    pub namespace: Option<Arc<str>>,
    /// Name of the VMI, or of the libvirt domain on a host without Kubernetes.
    pub name: Arc<str>,
}

impl Clone for GuestName {
    fn clone(&self) -> Self {
        Self { namespace: self.namespace.clone(), name: Arc::clone(&self.name) }
    }

    fn clone_from(&mut self, newer: &Self) {
        renew(&mut self.name, &newer.name);
        match (&mut self.namespace, &newer.namespace) {
            (Some(namespace), Some(newer)) => renew(namespace, newer),
            (namespace, newer) => namespace.clone_from(newer),
        }
    }
}

impl GuestName {
    /// The name of a libvirt domain on a host without Kubernetes.
    pub fn standalone(name: impl Into<Arc<str>>) -> Self {
        Self { namespace: None, name: name.into() }
    }
    /// What a guest is called of which nobody told the name: by its pod.
    pub fn unnamed(pod: &str) -> Self {
        Self::standalone(format!("pod {pod}"))
    }
    /// The name of a VMI.
    pub fn namespaced(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: Some(namespace.into()), name: name.into() }
    }
}

impl fmt::Display for GuestName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// Everything read in one turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// When the reading was complete.
    pub at: Monotonic,
    /// The wall clock at the same moment, since 1970; compared with `last_update` of a guest seen for the first time, and shown
    /// to programs.
    pub wall: Duration,
    /// How long before `at` the host was read; not at all, but where fresh statistics alone are judged.
    pub host_age: Duration,
    /// The host.
    pub host: HostSample,
    /// Every guest that a hypervisor lists, in no particular order.
    pub guests: Vec<GuestSample>,
    /// Pods that look like guests and are not listed; none on a host without Kubernetes.
    pub strangers: Vec<Stranger>,
}

impl Sample {
    /// When the host was read.
    pub fn host_at(&self) -> Monotonic {
        Monotonic::new(self.at.since_origin().saturating_sub(self.host_age))
    }
}

/// One guest at one moment.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct GuestSample {
    /// Identity.
    pub id: GuestId,
    /// Name for people and for the roster.
    pub name: GuestName,
    /// Which QEMU process this is; absent when it could not be found.
    pub incarnation: Option<Incarnation>,
    /// What the domain's definition says.
    pub config: GuestConfig,
    /// What the hypervisor says it does.
    pub run_state: RunState,
    /// Balloon and statistics; absent when the call failed (then `trouble` says why).
    pub balloon: Option<Balloon>,
    /// What the host's kernel says of the process and its pod.
    pub facts: ProcessFacts,
    /// How long ago the kernel said that, and what `incarnation` is; absent while it has not answered about this guest.
    pub facts_age: Option<Duration>,
    /// Why something is absent, for people.
    pub trouble: Option<String>,
}

impl Clone for GuestSample {
    fn clone(&self) -> Self {
        Self {
            id: self.id.clone(),
            name: self.name.clone(),
            config: self.config.clone(),
            trouble: self.trouble.clone(),
            ..*self
        }
    }

    /// Into the memory that is there, for this is done of every guest each turn.
    fn clone_from(&mut self, newer: &Self) {
        let Self { id, name, incarnation, config, run_state, balloon, facts, facts_age, trouble } = newer;
        self.id.clone_from(id);
        self.name.clone_from(name);
        self.config.clone_from(config);
        self.trouble.clone_from(trouble);
        (self.incarnation, self.run_state, self.balloon) = (*incarnation, *run_state, *balloon);
        (self.facts, self.facts_age) = (*facts, *facts_age);
    }
}

impl GuestSample {
    /// What the guest holds by its balloon, and no more than it has. The device's word for what it gave is the guest's
    /// to write (virtio 1.2, 5.5.4, `actual`), and QEMU subtracts it unchecked (`virtio_balloon_stat` in
    /// hw/virtio/virtio-balloon.c), so that a hostile kernel can claim any amount.
    pub fn holds(&self, balloon: &Balloon) -> Bytes {
        balloon.actual.min(self.config.full)
    }

    /// False if it is known to be another process than this one. Whose process is not shown just now is the same until another
    /// one is seen: what it had is worth more.
    pub fn may_be(&self, process: Option<Incarnation>) -> bool {
        process.is_none() || self.incarnation.is_none() || process == self.incarnation
    }

    /// When the host's kernel showed the process, seen from `at`; absent if it did not.
    pub fn shown_at(&self, at: Monotonic) -> Option<Monotonic> {
        let age = self.facts_age.filter(|_| self.incarnation.is_some())?;
        Some(Monotonic::new(at.since_origin().saturating_sub(age)))
    }
}

/// One QEMU process: pids are reused, a pid with its start time is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Incarnation {
    /// Process id in the agent's PID namespace.
    pub pid: u32,
    /// Start time in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub start_ticks: u64,
}

impl Incarnation {
    /// When it started, on a clock that counts from boot with suspended time (`CLOCK_BOOTTIME`).
    pub fn started(&self) -> Monotonic {
        /// `USER_HZ`, the unit of /proc/PID/stat, is 100 on every architecture that KubeVirt supports
        /// (include/asm-generic/param.h).
        const TICK_MILLIS: u64 = 10;
        Monotonic::new(Duration::from_millis(self.start_ticks.saturating_mul(TICK_MILLIS)))
    }
}

/// What the domain's definition says about memory.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestConfig {
    /// Full size without pluggable memory: `<memory>` less all virtio-mem devices' sizes.
    pub full: Bytes,
    /// Pluggable memory that the guest has, or may plug at any moment: of each virtio-mem device the larger of its
    /// current and its requested size. No balloon can take it.
    pub plugged: Bytes,
    /// A virtio-mem device has another size than it was asked for.
    pub plugging: bool,
    /// A virtio balloon device is there and its model is not `none`.
    pub has_balloon: bool,
    /// Free page reporting is on.
    pub free_page_reporting: bool,
    /// Facts for which a guest is never touched, in the order found.
    pub untouchable: Vec<Untouchable>,
    /// Virtual CPUs that it has now (`<vcpu>`); for programs alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcpus: Option<u32>,
}

impl Clone for GuestConfig {
    fn clone(&self) -> Self {
        Self { untouchable: self.untouchable.clone(), ..*self }
    }

    fn clone_from(&mut self, newer: &Self) {
        let mut untouchable = std::mem::take(&mut self.untouchable);
        untouchable.clone_from(&newer.untouchable);
        *self = Self { untouchable, ..*newer };
    }
}

/// Facts of a guest's definition for which its memory is never touched: either nothing would be gained (pinned or
/// huge pages), or its owner paid for determinism (design §6.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Untouchable {
    /// Backed by huge pages.
    HugePages,
    /// Virtual CPUs pinned to dedicated ones.
    DedicatedCpus,
    /// Realtime scheduling.
    Realtime,
    /// Any host device (VFIO pins all memory).
    HostDevice,
    /// SEV, SNP, TDX or Secure Execution.
    LaunchSecurity,
    /// Memory locked in RAM.
    LockedMemory,
    /// The pod's QoS class is Guaranteed.
    Guaranteed,
}

/// What the hypervisor says the domain does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunState {
    /// Running, no job under way.
    Running,
    /// Paused, suspended or crashed.
    Paused,
    /// A job (migration, dump, snapshot) holds the domain.
    Busy,
    /// The hypervisor did not answer in time or refused.
    Unreachable,
}

/// The balloon device and the statistics the guest pushed through it.
///
/// libvirt's names (`virDomainMemoryStatTags`); the guest's own words: never trusted, only compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balloon {
    /// `ACTUAL_BALLOON`: what the guest holds now.
    pub actual: Bytes,
    /// `LAST_UPDATE`: wall clock of the last statistics, whole seconds; absent or 0 before the first.
    pub last_update: Option<u64>,
    /// Statistics period that QEMU is set to, seconds; absent if unknown, 0 is off.
    pub period: Option<u32>,
    /// `AVAILABLE`: the guest's `MemTotal`.
    pub available: Option<Bytes>,
    /// `UNUSED`: the guest's `MemFree`.
    pub unused: Option<Bytes>,
    /// `USABLE`: the guest's `MemAvailable`.
    pub usable: Option<Bytes>,
    /// `SWAP_IN` since the guest's boot.
    pub swap_in: Option<Bytes>,
    /// `SWAP_OUT` since the guest's boot.
    pub swap_out: Option<Bytes>,
    /// `MAJOR_FAULT` since the guest's boot.
    pub major_faults: Option<u64>,
    /// `MINOR_FAULT` since the guest's boot.
    pub minor_faults: Option<u64>,
}

/// What the host's kernel says of a guest's process and pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessFacts {
    /// QEMU's resident size (`VmRSS`).
    pub resident: Option<Bytes>,
    /// Anonymous and shared memory of QEMU and everything else in its pod or scope: the guest's part of `AnonPages` and `Shmem`.
    pub anon: Option<Bytes>,
    /// That is what its processes count, each for itself, and no cgroup: so much of it may be merged with others, who count
    /// the same pages again. Absent where a cgroup counts each page once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeated: Option<Bytes>,
    /// Where a cgroup counts each page once: how much at least is merged of QEMU, with whomever, once for each place where it
    /// maps it. Absent where its processes count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merging: Option<Bytes>,
    /// What QEMU and its helpers use beside the guest's RAM, measured now and then.
    pub overhead: Option<Bytes>,
    /// The pod's memory request as far as the node can tell; absent without Kubernetes.
    pub request: Option<Bytes>,
    /// The pod's memory limit; absent when unlimited.
    pub limit: Option<Bytes>,
    /// The most that everything in the pod may hold by limits that its tenant cannot raise; absent when unlimited.
    pub bound: Option<Bytes>,
    /// How much more of it the kernel may swap out by the limits of its pod; absent when unlimited.
    pub swappable: Option<Bytes>,
    /// How much swap its pod or scope occupies, else what of QEMU's private memory was swapped out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swapped: Option<Bytes>,
    /// Page faults of QEMU since its start; for programs alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub faults: Option<Faults>,
}

/// Page faults of a process (`minflt`, `majflt`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    /// Those for which nothing was read.
    pub minor: u64,
    /// Those for which something was.
    pub major: u64,
}

impl ProcessFacts {
    /// What is known now, else what was known before: a reading that failed unsays nothing.
    #[must_use]
    pub fn or(self, before: &Self) -> Self {
        Self {
            resident: self.resident.or(before.resident),
            anon: self.anon.or(before.anon),
            repeated: if self.anon.is_some() { self.repeated } else { before.repeated },
            merging: if self.anon.is_some() { self.merging } else { before.merging },
            overhead: self.overhead.or(before.overhead),
            request: self.request.or(before.request),
            limit: self.limit.or(before.limit),
            // A promise is cut by it, so it must still hold: a reading that came says, too, that there is none.
            bound: if self.anon.is_some() { self.bound } else { before.bound },
            swappable: self.swappable.or(before.swappable),
            swapped: self.swapped.or(before.swapped),
            faults: self.faults.or(before.faults),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn identities_are_ordered_and_written_as_their_texts(a in "[\\x00ab/é]{0,12}", b in "[\\x00ab/é]{0,12}") {
            let ids = [&a, &b].map(|text| GuestId::new(text.as_str()));
            prop_assert_eq!(ids[0].cmp(&ids[1]), a.cmp(&b));
            prop_assert_eq!(ids[0] == ids[1], a == b);
            let written = serde_json::to_string(&ids[0]).unwrap();
            prop_assert_eq!(&written, &serde_json::to_string(&a).unwrap());
            prop_assert_eq!(serde_json::from_str::<GuestId>(&written).unwrap(), ids[0].clone());
        }
    }
}
