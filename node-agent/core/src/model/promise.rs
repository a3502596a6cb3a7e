//! What a guest may touch, what it is charged for that, and what it may be given.

use super::Track;
use crate::conduct::Trust;
use crate::sample::Untouchable;
use crate::units::Bytes;

/// What QEMU and its launcher need beside the guest's memory until it was measured: QEMU about 90 MiB, virt-launcher
/// and virtqemud about 100 MiB (measured with KubeVirt 1.7).
pub const ASSUMED_OVERHEAD: Bytes = Bytes::from_mib(192);
/// What processes hold beyond their overhead and the guest's balloon is charged from here on: overheads are measured
/// seldom and by another count.
const HELD_TOLERANCE: Bytes = Bytes::from_mib(16);

impl Track {
    /// Memory beside the guest's own: measured, else assumed.
    pub fn overhead(&self) -> Bytes {
        self.sample.facts.overhead.unwrap_or(ASSUMED_OVERHEAD)
    }

    /// What its processes hold beside their overhead, by the host's kernel; absent while either is unknown.
    pub fn held(&self) -> Option<Bytes> {
        let facts = &self.sample.facts;
        facts.anon.zip(facts.overhead).map(|(anon, overhead)| anon.minus(overhead))
    }

    /// Memory that was plugged into it.
    pub fn plugged(&self) -> Bytes {
        self.sample.config.plugged
    }

    /// The same, but no more than the host has.
    pub fn touchable_plugged(&self) -> Bytes {
        self.plugged().min(self.host_total)
    }

    /// What the guest itself may touch now of the memory that its balloon can take: the largest of what it says it holds,
    /// what its processes are seen to hold, and what it was promised; everything while nothing binds it, but no more than
    /// the host has. A squeezed guest that is silent may have rebooted: until its new kernel's driver is up nothing binds
    /// it, although the device still says what the last one held.
    pub fn reach(&self) -> Bytes {
        let full = self.sample.config.full;
        let held = self.surely_held().minus(self.plugged());
        let told = self.target.max(self.asked.unwrap_or_default());
        let promised = if self.is_bound() { told } else { told.max(full) };
        promised.max(self.actual).min(self.host_total).min(self.allowed_to_balloon()).max(held)
    }

    /// The most that its pod can hold, whatever it was promised: the kernel refuses a cgroup every page beyond its
    /// `memory.max`. All of a guest's memory is charged there, be it anonymous, a memfd or shared memory (to the cgroup of
    /// who touches it first, which is a process of the pod, or a kernel thread that works with the pod's memory), and so
    /// is everything of its launcher; page cache and the kernel's part count against the same limit. What the pod holds is
    /// charged in any case, also where a limit was lowered below it. A limit that is raised counts as soon as it is
    /// read, once per control period: only the kubelet can raise those that are looked at.
    fn allowed(&self) -> Bytes {
        self.sample.facts.bound.unwrap_or(Bytes::MAX)
    }

    /// What that leaves the memory that its balloon can take.
    fn allowed_to_balloon(&self) -> Bytes {
        self.allowed().minus(self.beside_balloon())
    }

    /// What of its target its pod's limit keeps it from.
    pub fn idle(&self) -> Bytes {
        self.target.min(self.host_total).minus(self.reach())
    }

    /// What a target of `to` adds to the promises: nothing up to what it may touch already, and nothing beyond its pod's limit.
    pub fn cost(&self, to: Bytes) -> Bytes {
        to.min(self.allowed_to_balloon()).minus(self.reach())
    }

    /// The largest target that `spare` pays.
    pub fn affordable(&self, spare: Bytes) -> Bytes {
        let to = self.reach().plus(spare);
        if to >= self.allowed_to_balloon() { Bytes::MAX } else { to }
    }

    /// What is in its pod beside the memory that its balloon can take.
    fn beside_balloon(&self) -> Bytes {
        self.plugged().plus(self.overhead())
    }

    /// Its balloon is there, up, heard of and believed.
    pub fn is_bound(&self) -> bool {
        !self.rebooted
            && self.sample.config.has_balloon
            && self.evidence.fresh().is_some()
            && self.conduct.trust() == Trust::Trusted
    }

    /// The most that it may be given while we hold it: its ceiling, and its cgroup's limit less what is beside it there.
    pub fn cap(&self) -> Bytes {
        self.ceiling.min(self.limit())
    }

    /// What its cgroup's limit leaves to its balloon.
    pub(crate) fn limit(&self) -> Bytes {
        self.sample.facts.limit.map_or(Bytes::MAX, |limit| limit.minus(self.beside_balloon()))
    }

    /// What the node has promised for this guest, plugged memory and overhead included: no more than its pod may hold by
    /// its limit, and no less than it holds. The memory of a guest that is backed by huge pages is in their pools, which the
    /// budget is without already, and QEMU never takes other pages for it (libvirt preallocates them, or starts no guest).
    pub fn charge(&self) -> Bytes {
        if self.is_pooled() {
            return self.pooled_charge();
        }
        let reach = self.reach();
        let all = reach.plus(self.plugged()).min(self.host_total);
        let promised = all.max(reach).max(self.surely_held()).plus(self.overhead());
        let holds = self.sample.facts.anon.unwrap_or_default().minus(HELD_TOLERANCE);
        promised.min(self.allowed()).max(reach).max(holds)
    }

    /// All its memory is in a pool of huge pages.
    fn is_pooled(&self) -> bool {
        self.sample.config.untouchable.contains(&Untouchable::HugePages)
    }

    /// What such a guest costs beside the pool: its overhead, and no less than its processes hold of other pages.
    fn pooled_charge(&self) -> Bytes {
        let holds = self.sample.facts.anon.unwrap_or_default().minus(HELD_TOLERANCE);
        self.overhead().min(self.allowed()).max(holds)
    }

    /// What its processes hold beside their overhead, but for what two measurements may differ by.
    fn surely_held(&self) -> Bytes {
        self.held().unwrap_or_default().minus(HELD_TOLERANCE)
    }

    /// What of its charge no balloon can take.
    pub fn beside(&self) -> Bytes {
        self.charge().minus(self.reach())
    }

    /// Inflation under way that can still be expected to come.
    pub fn pending(&self) -> Bytes {
        if self.is_bound() { self.actual.minus(self.target) } else { Bytes::ZERO }
    }
}
