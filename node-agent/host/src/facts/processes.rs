//! QEMU processes by the pod that they run in.
//!
//! Anybody can start hundreds with such names and with command lines of 200 KiB. So a process is asked for its name and its
//! place; the command lines that are read are those of pods that somebody asks about, and of a pod's a few.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use overcommit_core::sample::Incarnation;
use overcommit_core::units::Bytes;

use super::known::PROCESSES_PER_POD;
use crate::held::{ReadError, unless_gone};
use crate::proc::{self, Proc};
use crate::qemu::CommandLine;
use crate::root::Root;
use crate::status::Status;
use crate::visits::Visits;

/// Command lines that are read of a pod, those of the processes with the most memory: a launcher runs one QEMU, and
/// beside it for moments one that is asked what it can do, or a `qemu-img`.
const LINES_PER_POD: usize = 4;

/// UID of a pod; absent for what runs outside of pods.
pub(super) type Pod = Option<Arc<str>>;

/// The QEMU processes of one reading.
#[derive(Debug, Default)]
pub(super) struct Processes {
    /// All of them, if any pod was asked about.
    by_pod: Option<HashMap<Pod, Vec<u32>>>,
    /// Those whose command lines were read, the one with the most memory first.
    seen: HashMap<Pod, Arc<[Seen]>>,
}

/// A QEMU process and what its command line says.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) process: Incarnation,
    pub(super) line: CommandLine,
}

impl Processes {
    /// Those of this pod, but for processes at which somebody else is. In a pod where somebody is at any, none: its others
    /// may hang as well, and one pod is not to hold up one reader after the other.
    ///
    /// # Errors
    /// When the process table cannot be read, or file descriptors or memory ran out: not to be seen now is not to be gone.
    pub(super) fn of(&mut self, pod: &Pod, root: &Root, visits: &Visits) -> Result<Arc<[Seen]>, ReadError> {
        if let Some(seen) = self.seen.get(pod) {
            return Ok(Arc::clone(seen));
        }
        let by_pod = match self.by_pod.take() {
            Some(by_pod) => by_pod,
            None => all(root)?,
        };
        let pids = self.by_pod.insert(by_pod).get(pod).map_or(&[][..], Vec::as_slice);
        let mut seen = Vec::new();
        if pod.is_none() || !visits.are_at(pids) {
            for pid in worth_reading(root, pod, pids)? {
                seen.extend(visits.enter(pid).map(|_visit| read(root, pod, pid)).transpose()?.flatten());
            }
        }
        let seen: Arc<[Seen]> = Arc::from(seen);
        self.seen.insert(pod.clone(), Arc::clone(&seen));
        Ok(seen)
    }
}

/// All processes with a name that begins as QEMU's do.
fn all(root: &Root) -> Result<HashMap<Pod, Vec<u32>>, ReadError> {
    let mut by_pod: HashMap<Pod, Vec<u32>> = HashMap::new();
    for pid in proc::pids(root)? {
        if proc::name(root, pid)?.starts_with("qemu-")
            && let Some(pod) = unless_gone(Proc::open(root, pid).and_then(|process| process.pod_uid()))?
        {
            by_pod.entry(pod).or_default().push(pid);
        }
    }
    Ok(by_pod)
}

/// Of these processes those whose command lines are read.
fn worth_reading(root: &Root, pod: &Pod, pids: &[u32]) -> Result<Vec<u32>, ReadError> {
    if pids.len() < 2 {
        return Ok(pids.to_vec());
    }
    let (looked_at, read) = match pod {
        Some(_) => (PROCESSES_PER_POD, LINES_PER_POD),
        None => (usize::MAX, usize::MAX),
    };
    let mut sizes: Vec<(Bytes, u32)> = Vec::new();
    for pid in pids.iter().take(looked_at) {
        let status = Proc::open(root, *pid).and_then(|process| Status::read(&process));
        sizes.extend(unless_gone(status)?.map(|status| (status.resident, *pid)));
    }
    sizes.sort_by_key(|(resident, _)| Reverse(*resident));
    Ok(sizes.into_iter().map(|(_, pid)| pid).take(read).collect())
}

/// What the command line of a process in this pod says; absent if it is there no more.
fn read(root: &Root, pod: &Pod, pid: u32) -> Result<Option<Seen>, ReadError> {
    let seen = || {
        let process = Proc::open(root, pid)?;
        // The number may be another's by now.
        if process.pod_uid()? != *pod {
            return Ok(None);
        }
        let line = CommandLine::parse(&process.arguments()?);
        Ok(Some(Seen { process: process.incarnation(), line }))
    };
    Ok(unless_gone(seen())?.flatten())
}
