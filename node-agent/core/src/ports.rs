//! The ways in and out of the core: small traits that the node, a simulator, a replay and a fault-injecting wrapper
//! implement alike.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use crate::plan::{Command, Outcome};
use crate::sample::{GuestId, GuestName, GuestSample, HostSample, Incarnation, ProcessFacts};
use crate::stranger::Stranger;
use crate::troubles::Troubles;
use crate::units::Bytes;

/// A reading that failed as a whole.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {why}")]
pub struct PortError {
    /// What was read, with its path.
    pub what: String,
    /// What went wrong and what to do.
    pub why: String,
}

/// Reads the host.
pub trait HostPort {
    /// One reading.
    ///
    /// # Errors
    /// When a file without which no budget can be known (`/proc/meminfo`, `/proc/vmstat`) cannot be read.
    fn sample(&mut self) -> Result<HostSample, PortError>;
}

/// What came back from the guests since the last time.
#[derive(Debug, Default)]
pub struct Heard {
    /// What became of commands.
    pub outcomes: Vec<Outcome>,
    /// Guests whose statistics were asked for and came, with their stamps.
    pub glances: Vec<(GuestId, Option<u64>)>,
    /// When the first new word of a guest arrived; absent if nothing came but outcomes.
    pub news: Option<Instant>,
    /// The host's kernel has answered about all guests that it was asked about.
    pub host: bool,
}

/// Whose hypervisors may be talked to in a cluster, by the pods that the kernel says they run in: all others are looked at
/// from the host's side alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// Pods on the node's list, and whose they are.
    pub listed: BTreeMap<Arc<str>, GuestName>,
    /// Pods that are listed no more, and are owed what was taken from them while they were.
    pub owed: BTreeSet<Arc<str>>,
}

impl Admission {
    /// True if what runs in this pod may be talked to.
    pub fn admits(&self, pod: &str) -> bool {
        self.listed.contains_key(pod) || self.owed.contains(pod)
    }
}

/// Which of the host's facts of the guests a sample holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// The newest that came.
    Fresh,
    /// Those of the last fresh sample: of one moment with the host as it was read then.
    Known,
}

/// Reads and drives the guests. Nothing here waits for a guest or for the host's kernel: what is asked for arrives later
/// and is taken in by [`GuestPort::hear`], so a guest that does not answer delays no other and no decision.
pub trait GuestPort {
    /// Asks for everything of every guest.
    fn ask(&mut self);
    /// Asks the host's kernel about every guest that is known by now.
    fn ask_host(&mut self);
    /// Asks for the statistics of one guest.
    fn ask_statistics(&mut self, id: &GuestId);
    /// Takes in what has arrived.
    fn hear(&mut self) -> Heard;
    /// True while an answer to the last [`GuestPort::ask`] or [`GuestPort::ask_host`] may still come in time.
    fn is_waiting(&self) -> bool;
    /// From now on these may be talked to, and no others; without Kubernetes all may.
    fn admit(&mut self, admission: Arc<Admission>);
    /// All guests that exist, as known now.
    fn sample(&mut self, facts: Reading) -> Vec<GuestSample>;
    /// Pods that look like guests and may not be talked to, as of the last [`GuestPort::sample`].
    fn strangers(&self) -> Vec<Stranger>;
    /// Sends commands; what becomes of them is heard later, and always in the end.
    fn send(&mut self, commands: &[Command]);
    /// True while what became of a command is not known.
    fn is_carrying(&self) -> bool;
    /// How many hypervisors there are of which no guest list was ever seen: their guests are in no sample.
    fn unseen(&self) -> usize {
        0
    }
    /// What cannot be reached, for people.
    fn troubles(&self) -> Troubles {
        Troubles::default()
    }
}

/// Says what the host's kernel knows of guests, whatever their hypervisors say. Each call may block for as long as a node
/// that thrashes or a process that holds its memory lock likes, so it has a thread of its own.
pub trait ProcessPort {
    /// A new reading of all guests begins.
    fn begin_reading(&mut self) {}
    /// What is known of one guest.
    fn look(&mut self, who: &Who) -> HostView;
    /// Guests whose processes run in this pod (at most one: a launcher has one, and the pod's owner can start processes
    /// of any name there), or outside of pods.
    fn running(&mut self, pod_uid: Option<&str>) -> Vec<Evident>;
    /// What is counted with for the guests that seem to run in these pods, which nobody listed; one for each pod at most.
    fn strangers(&mut self, _pods: &[Arc<str>]) -> Vec<Stranger> {
        Vec::new()
    }
    /// All that was asked is told: time for what takes longer, to be told next time.
    fn end_reading(&mut self) {}
}

/// Which guest is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// Pod that its process must be in; absent on a host without Kubernetes.
    pub pod_uid: Option<Arc<str>>,
    /// The domain's UUID in lower case: what libvirt passes to QEMU as `-uuid`.
    pub uuid: Arc<str>,
    /// Its full size, by which its memory is told from QEMU's own.
    pub full: Bytes,
    /// The most that each device can have by which memory is plugged; each has a mapping of its own.
    pub pluggable: Vec<Bytes>,
}

/// What the host knows of a guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostView {
    /// Its QEMU process.
    pub incarnation: Option<Incarnation>,
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
