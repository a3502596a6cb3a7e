//! One guest's process and what is measured of it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use overcommit_core::ports::{HostView, Who};
use overcommit_core::sample::{Faults, Incarnation, ProcessFacts};
use overcommit_core::units::Bytes;

use crate::cgroup::{self, CgroupPlace, Holds, Qos};
use crate::glimpse;
use crate::held::{ReadError, read_text};
use crate::mounts::CgroupMounts;
use crate::oom_score::{self, request_from_score};
use crate::proc::Proc;
use crate::root::Root;
use crate::smaps;
use crate::status::Status;

use super::processes::Pod;

/// How old a measured overhead may get; once a guest has booted it changes with its devices, not with its load.
const OVERHEAD_AGE: Duration = Duration::from_mins(1);
/// The same for the first measurements, while a guest may be booting.
const EARLY_OVERHEAD_AGE: Duration = Duration::from_secs(10);
/// How many measurements are early ones.
const EARLY_MEASUREMENTS: u32 = 3;
/// How long first measurements may take together in one reading; the others wait for the next.
const FIRST_MEASUREMENTS: Duration = Duration::from_millis(50);
/// Processes of one pod that are looked at; a launcher's has about eight.
pub(super) const PROCESSES_PER_POD: usize = 256;

/// A guest's process and what does not change while it runs.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) process: Proc,
    pub(super) place: Option<CgroupPlace>,
    /// Its own cgroups, the outermost first.
    directories: Vec<PathBuf>,
    overhead: Option<Measured>,
    /// Which guest it was looked at for last.
    who: Option<Who>,
}

/// An overhead that was measured.
#[derive(Clone, Copy, Debug)]
struct Measured {
    at: Instant,
    bytes: Option<Bytes>,
    /// How many times before.
    before: u32,
}

impl Known {
    pub(super) fn open(root: &Root, mounts: &CgroupMounts, pid: u32) -> Result<Self, ReadError> {
        let process = Proc::open(root, pid)?;
        let place = process.place()?;
        let directories = place.as_ref().map(|p| mounts.own_directories(p)).unwrap_or_default();
        Ok(Self { process, place, directories, overhead: None, who: None })
    }

    /// True if it is this very process, and still runs in this pod, or outside of pods.
    pub(super) fn is(&self, process: Incarnation, pod: &Pod) -> bool {
        let place = self.place.as_ref().and_then(CgroupPlace::pod_uid);
        self.process.incarnation() == process && place == pod.as_ref()
    }

    pub(super) fn view(
        &self,
        status: Status,
        overhead: Option<Bytes>,
        capacity: Option<Bytes>,
    ) -> Result<HostView, ReadError> {
        let version = self.place.as_ref().map(CgroupPlace::version);
        // Before what the cgroup holds: what is merged in between is then taken for others', and not for nobody's.
        let merging = self.merging();
        let holds = self.holds(0);
        let repeated = || merging.map_or(status.anon, |merging| merging.min(status.anon));
        let (anon, repeated) = match holds {
            Some(holds) => (holds.all(status.shmem), None),
            None => (status.anon.plus(status.shmem), Some(repeated())),
        };
        // Before Linux 5.19 that is not known. But what a process maps beyond what is charged, others are charged for.
        let merging = holds.map(|holds| merging.unwrap_or_else(|| status.anon.minus(holds.anon)));
        let limits = version.map_or_else(Vec::new, |v| cgroup::limits(&self.directories, v));
        let limit = limits.iter().flatten().min().copied();
        let score = self.process.oom_score()?;
        let qos = self.place.as_ref().and_then(CgroupPlace::qos);
        let guaranteed = qos == Some(Qos::Guaranteed) || (qos.is_some() && score == oom_score::GUARANTEED);
        let request = match qos {
            None => None,
            Some(_) if guaranteed => limit,
            Some(_) => capacity.and_then(|c| request_from_score(score, c)),
        };
        let unreached = qos.is_some() && self.directories.is_empty();
        Ok(HostView {
            incarnation: Some(self.process.incarnation()),
            guaranteed,
            facts: ProcessFacts {
                resident: Some(status.resident),
                anon: Some(anon),
                repeated,
                merging,
                overhead,
                request: request.map(|r| limit.map_or(r, |l| r.min(l))),
                limit,
                bound: qos.and_then(|_| cgroup::bound(&limits, holds, || self.holds(1))),
                swappable: version.and_then(|v| cgroup::swappable(&self.directories, v)),
                swapped: Some(self.swapped().unwrap_or(status.swapped)),
                faults: self.faults(),
            },
            trouble: unreached.then(|| {
                "the pod's cgroup cannot be reached, so its limit is unknown; the agent needs SYS_PTRACE and the \
                 host's PID namespace"
                    .to_owned()
            }),
        })
    }

    /// What of it the kernel may have merged, with whomever (`ksm_merging_pages`); absent before Linux 5.19.
    fn merging(&self) -> Option<Bytes> {
        let pages: u64 = self.process.text("ksm_merging_pages").ok()?.trim().parse().ok()?;
        let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
        Some(Bytes::new(pages.saturating_mul(page)))
    }

    /// What swap its pod or scope occupies; absent if it has none of its own.
    fn swapped(&self) -> Option<Bytes> {
        cgroup::swapped(self.directories.first()?, self.place.as_ref()?.version())
    }

    /// Its page faults.
    fn faults(&self) -> Option<Faults> {
        glimpse::all_faults(&self.process.text("stat").ok()?)
    }

    /// What this level of its pod or scope holds, the outermost first; absent if it has none of its own.
    fn holds(&self, level: usize) -> Option<Holds> {
        cgroup::holds(self.directories.get(level)?, self.place.as_ref()?.version())
    }

    /// The overhead as last measured; measured now if it never was and this reading has time for it.
    pub(super) fn overhead(
        &mut self,
        root: &Root,
        spent: &mut Duration,
        who: &Who,
        status: Status,
    ) -> Result<Option<Bytes>, ReadError> {
        self.who = Some(who.clone());
        if self.overhead.is_none() && *spent < FIRST_MEASUREMENTS {
            let at = Instant::now();
            let bytes = self.measure(root, who, status)?;
            *spent = spent.saturating_add(at.elapsed());
            self.overhead = Some(Measured { at, bytes, before: 0 });
        }
        Ok(self.overhead.and_then(|last| last.bytes))
    }

    #[cfg(test)]
    pub(super) fn age_by(&mut self, time: Duration) {
        if let Some(last) = &mut self.overhead {
            last.at = last.at.checked_sub(time).unwrap();
        }
    }

    /// For how long its overhead is too old; absent if it is not, or was never measured.
    pub(super) fn overdue(&self) -> Option<Duration> {
        let last = self.overhead?;
        last.at.elapsed().checked_sub(last.may_age())
    }

    /// Measures its overhead for the next look. Walking the page tables takes milliseconds per GiB.
    pub(super) fn measure_again(&mut self, root: &Root) -> Result<(), ReadError> {
        let (Some(last), Some(who)) = (self.overhead, self.who.clone()) else { return Ok(()) };
        let at = Instant::now();
        let status = Status::read(&self.process)?;
        let bytes = self.measure(root, &who, status)?;
        self.overhead = Some(Measured { at, bytes, before: last.before.saturating_add(1) });
        Ok(())
    }

    fn measure(&self, root: &Root, who: &Who, status: Status) -> Result<Option<Bytes>, ReadError> {
        let Some(beside) = smaps::beside_guest(&self.process, who.full, &who.pluggable)? else {
            return Ok(None);
        };
        let (anon, page_tables) = self.others(root);
        let holds = self.holds(0);
        // What the pod keeps in tmpfs counts as the guest's, and is none of its memory.
        let files = holds.and_then(|h| h.shmem).map_or(Bytes::ZERO, |all| all.minus(status.shmem));
        // A page counts once for each process and each mapping that shares it, and once for its cgroup.
        let counted = holds.map_or(Bytes::MAX, |h| h.all(status.shmem));
        let most = holds.map_or(Bytes::MAX, |h| h.anon);
        let private = beside.private.plus(anon.min(most)).plus(files).min(counted);
        Ok(Some(private.plus(beside.files).plus(status.page_tables).plus(page_tables)))
    }

    /// Anonymous memory and page tables of the other processes in the pod or scope, as each counts them.
    fn others(&self, root: &Root) -> (Bytes, Bytes) {
        let Some(top) = self.directories.first() else { return (Bytes::ZERO, Bytes::ZERO) };
        let mut pids = Vec::new();
        processes_below(top, 0, &mut pids);
        let others = pids
            .iter()
            .filter(|pid| **pid != self.process.incarnation().pid)
            .filter_map(|pid| Status::read(&Proc::open(root, *pid).ok()?).ok());
        others.fold((Bytes::ZERO, Bytes::ZERO), |(anon, tables), status| {
            (anon.plus(status.anon), tables.plus(status.page_tables))
        })
    }
}

impl Measured {
    fn may_age(&self) -> Duration {
        if self.before < EARLY_MEASUREMENTS { EARLY_OVERHEAD_AGE } else { OVERHEAD_AGE }
    }
}

/// Processes of a cgroup and all below it, at most [`PROCESSES_PER_POD`].
fn processes_below(dir: &std::path::Path, depth: u32, pids: &mut Vec<u32>) {
    /// A launcher's containers nest two levels.
    const DEEPEST: u32 = 6;
    let text = read_text(&dir.join("cgroup.procs"), 64 << 10).unwrap_or_default();
    pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if depth < DEEPEST && pids.len() < PROCESSES_PER_POD && entry.file_type().is_ok_and(|t| t.is_dir()) {
            processes_below(&entry.path(), depth.saturating_add(1), pids);
        }
    }
    pids.truncate(PROCESSES_PER_POD);
}
