//! Finds the libvirt daemons in KubeVirt's launcher pods.

use std::collections::HashMap;
use std::sync::Arc;

use overcommit_core::ports::PortError;
use overcommit_core::sample::Incarnation;
use rustix::fd::OwnedFd;

use crate::held::{ReadError, unless_gone};
use crate::proc::{self, Proc};
use crate::root::Root;
use crate::socket::SocketError;

mod pins;

use pins::Pins;

/// How often a new process is asked for its name before it counts as dull: between its start and the execution of
/// what it is to become, a scan may see another name.
const LOOKS: u8 = 3;
/// Each how many scans the dull ones are asked again, for pids that were reused between two scans.
const FULL_SCAN: u32 = 12;

/// A launcher whose libvirt may be talked to.
#[derive(Clone, Debug)]
pub struct Launcher {
    /// UID of its pod.
    pub pod_uid: Arc<str>,
    /// Its libvirt daemon.
    pub daemon: Incarnation,
    /// The daemon's socket, pinned; connect to `/proc/self/fd/N`. The same `Arc` from scan to scan while the same
    /// daemon runs.
    pub socket: Arc<OwnedFd>,
}

/// A launcher that cannot be talked to.
#[derive(Debug, thiserror::Error)]
#[error("launcher pod {pod_uid}: {why}")]
pub struct Refusal {
    /// UID of its pod.
    pub pod_uid: Arc<str>,
    /// Why.
    pub why: SocketError,
}

/// What one look at all processes found.
#[derive(Debug, Default)]
pub struct Scan {
    /// Launchers that may be talked to, one per pod, ordered by pod UID. One whose daemon is being restarted stays,
    /// with its dead socket, for as long as its QEMU runs: a guest out of reach is not a guest that is gone.
    pub launchers: Vec<Launcher>,
    /// Launchers that may not now, ordered by pod UID.
    pub refusals: Vec<Refusal>,
    /// Pods that look like launchers and were not admitted: nothing of theirs was opened. Ordered.
    pub strangers: Vec<Arc<str>>,
}

/// Finds launchers and remembers those whose socket was checked, so that each daemon is connected to once only.
#[derive(Debug)]
pub struct Launchers {
    root: Root,
    known: HashMap<Arc<str>, Launcher>,
    pins: Pins,
    /// How often each process that is none of ours was asked for its name: a node has thousands of them.
    dull: HashMap<u32, u8>,
    scans: u32,
}

/// The daemons and launchers of one pod.
#[derive(Debug, Default)]
struct Pod {
    /// The daemon, and whether it is the monolithic one.
    daemon: Option<(bool, Proc)>,
    /// A virt-launcher runs: the pod is one of KubeVirt's.
    has_launcher: bool,
    /// A QEMU runs.
    has_guest: bool,
}

impl Launchers {
    /// Looks at the processes below `root`, which must be those of the whole node.
    pub fn new(root: Root) -> Self {
        let pins = Pins::new(root.clone());
        Self { root, known: HashMap::new(), pins, dull: HashMap::new(), scans: 0 }
    }

    /// Looks again. Of pods that are not admitted nothing is opened, connected to or kept: anybody can make processes with
    /// these names. One that is and does not answer is refused, and holds nobody up.
    ///
    /// # Errors
    /// When the process table cannot be read at all.
    pub fn scan(&mut self, admits: impl Fn(&str) -> bool) -> Result<Scan, PortError> {
        let pods = self.pods()?;
        let lasts = |uid: &Arc<str>| pods.get(uid).is_some_and(|pod| pod.daemon.is_some() || pod.has_guest);
        self.known.retain(|uid, _| admits(uid) && lasts(uid));
        self.pins.begin(|uid| admits(uid) && lasts(uid));
        let mut scan = Scan::default();
        for (pod_uid, mut pod) in pods {
            if !admits(&pod_uid) {
                scan.strangers.extend(pod.looks_like_a_launcher().then_some(pod_uid));
                continue;
            }
            let admitted = match pod.daemon.take() {
                // Somebody's own libvirt in a pod, not KubeVirt's.
                Some((true, _)) if !pod.has_launcher => continue,
                Some((_, daemon)) => self.admit(&pod_uid, daemon),
                None if pod.has_guest && (pod.has_launcher || self.known.contains_key(&pod_uid)) => {
                    Err(SocketError::NoDaemon)
                }
                None => continue,
            };
            let last = || self.known.get(&pod_uid).filter(|_| pod.has_guest).cloned();
            match admitted {
                Ok(launcher) => scan.launchers.push(launcher),
                Err(why) => {
                    scan.launchers.extend(last());
                    scan.refusals.push(Refusal { pod_uid, why });
                }
            }
        }
        scan.launchers.sort_by(|a, b| a.pod_uid.cmp(&b.pod_uid));
        scan.refusals.sort_by(|a, b| a.pod_uid.cmp(&b.pod_uid));
        scan.strangers.sort_unstable();
        Ok(scan)
    }

    fn admit(&mut self, pod_uid: &Arc<str>, daemon: Proc) -> Result<Launcher, SocketError> {
        let which = daemon.incarnation();
        if let Some(known) = self.known.get(pod_uid).filter(|k| k.daemon == which) {
            return Ok(known.clone());
        }
        let socket = self.pins.pin(pod_uid, daemon)?;
        let found = Launcher { pod_uid: Arc::clone(pod_uid), daemon: which, socket };
        self.known.insert(Arc::clone(pod_uid), found.clone());
        Ok(found)
    }

    /// Launcher pods by UID. Processes that end while they are looked at are passed over.
    fn pods(&mut self) -> Result<HashMap<Arc<str>, Pod>, PortError> {
        let processes = proc::pids(&self.root).map_err(|e| unreadable(&e))?;
        if self.scans.is_multiple_of(FULL_SCAN) {
            self.dull.clear();
        }
        self.scans = self.scans.wrapping_add(1);
        let mut before = std::mem::take(&mut self.dull);
        let mut pods: HashMap<Arc<str>, Pod> = HashMap::new();
        for pid in processes {
            let looks = before.remove(&pid).unwrap_or(0);
            let name = if looks < LOOKS { proc::name(&self.root, pid) } else { Ok(String::new()) };
            let name = name.map_err(|e| unreadable(&e))?;
            let daemon = matches!(name.as_str(), "virtqemud" | "libvirtd");
            // Names are cut to 15 characters: virt-launcher-monitor shows as virt-launcher-m.
            let guest = name.starts_with("qemu-");
            if !daemon && !guest && !name.starts_with("virt-launcher") {
                self.dull.insert(pid, looks.saturating_add(1).min(LOOKS));
                continue;
            }
            let found = unless_gone(self.in_pod(pid)).map_err(|e| unreadable(&e))?;
            let Some((uid, process)) = found.flatten() else { continue };
            let pod = pods.entry(uid).or_default();
            if guest {
                pod.has_guest = true;
            } else if daemon {
                pod.offer(name == "libvirtd", process);
            } else {
                pod.has_launcher = true;
            }
        }
        Ok(pods)
    }

    fn in_pod(&self, pid: u32) -> Result<Option<(Arc<str>, Proc)>, ReadError> {
        let process = Proc::open(&self.root, pid)?;
        Ok(process.pod_uid()?.map(|uid| (uid, process)))
    }
}

fn unreadable(error: &ReadError) -> PortError {
    PortError {
        what: "launcher pods".to_owned(),
        why: format!("{error}; the agent needs the host's procfs and file descriptors"),
    }
}

impl Pod {
    /// A guest seems to run there, beside what KubeVirt runs with each.
    fn looks_like_a_launcher(&self) -> bool {
        let is_modular = self.daemon.as_ref().is_some_and(|(monolithic, _)| !monolithic);
        self.has_guest && (self.has_launcher || is_modular)
    }

    /// Of several daemons the modular one counts, then the oldest: what comes later is not KubeVirt's.
    fn offer(&mut self, monolithic: bool, process: Proc) {
        let rank =
            |monolithic: bool, p: &Proc| (monolithic, p.incarnation().start_ticks, p.incarnation().pid);
        let better = self.daemon.as_ref().is_none_or(|(m, p)| rank(monolithic, &process) < rank(*m, p));
        if better {
            self.daemon = Some((monolithic, process));
        }
    }
}

#[cfg(test)]
mod tests;
