//! What the host's kernel says of a guest: its QEMU process, its pod, its limits.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use overcommit_core::ports::{Evident, HostView, ProcessPort, Who};
use overcommit_core::sample::ProcessFacts;
use overcommit_core::units::Bytes;

use crate::cgroup::{self, CgroupPlace, Holds, Qos};
use crate::held::{ReadError, read_text};
use crate::mounts::CgroupMounts;
use crate::oom_score::{self, request_from_score};
use crate::proc::{self, Proc};
use crate::qemu::CommandLine;
use crate::root::Root;
use crate::status::Status;
use crate::{meminfo, smaps};

/// How old a measured overhead may get; once a guest has booted it changes with its devices, not with its load.
const OVERHEAD_AGE: Duration = Duration::from_mins(1);
/// The same for the first measurements, while a guest may be booting.
const EARLY_OVERHEAD_AGE: Duration = Duration::from_secs(10);
/// How many measurements are early ones.
const EARLY_MEASUREMENTS: u32 = 3;
/// How long first measurements may take together in one turn; the others wait for the next.
const FIRST_MEASUREMENTS: Duration = Duration::from_millis(50);
/// How old the list of guests that are known by their processes may get: it costs a look at all processes.
const EVIDENT_AGE: Duration = Duration::from_secs(5);
/// Processes of one pod that are looked at; a launcher's has about eight.
const PROCESSES_PER_POD: usize = 256;

/// Finds QEMU processes and keeps hold of them.
#[derive(Debug)]
pub struct ProcessFactsReader {
    root: Root,
    mounts: CgroupMounts,
    capacity: Option<Bytes>,
    known: HashMap<Key, Known>,
    /// Guests that are known by their processes, and when they were looked for.
    evident: Option<(Instant, Vec<Found>)>,
    turn: Turn,
}

/// A guest and its pod.
type Found = (Option<Arc<str>>, Evident);

/// Pod and UUID: users choose UUIDs, so that guests of two pods may have the same.
type Key = (Option<String>, String);

/// What happened in this turn.
#[derive(Debug, Default)]
struct Turn {
    /// QEMU processes by UUID, if this turn had to look for any.
    found: Option<HashMap<String, Vec<u32>>>,
    /// Guests asked for.
    asked: HashSet<Key>,
    measured_again: bool,
    first_measurements: Duration,
}

/// A guest's process and what does not change while it runs.
#[derive(Debug)]
struct Known {
    process: Proc,
    place: Option<CgroupPlace>,
    /// Its own cgroups, the outermost first.
    directories: Vec<PathBuf>,
    line: CommandLine,
    vmi_uid: Option<Arc<str>>,
    overhead: Option<Measured>,
}

/// An overhead that was measured.
#[derive(Clone, Copy, Debug)]
struct Measured {
    at: Instant,
    bytes: Option<Bytes>,
    /// How many times before.
    before: u32,
}

fn key(who: &Who<'_>) -> Key {
    (who.pod_uid.map(str::to_owned), who.uuid.to_owned())
}

impl ProcessFactsReader {
    /// A reader of the host below `root`.
    pub fn new(root: Root) -> Self {
        let memory = read_text(&root.join("proc/meminfo"), 64 << 10).ok();
        Self {
            mounts: CgroupMounts::detect(&root),
            capacity: memory.and_then(|text| meminfo::parse(&text).ok()).map(|m| m.total),
            root,
            known: HashMap::new(),
            evident: None,
            turn: Turn::default(),
        }
    }

    /// All guests with their pods, those with the most memory first; of several processes of one UUID in one place the
    /// one with the most memory.
    fn look_for_all(&mut self) -> Result<Vec<Found>, ReadError> {
        let found = qemus(&self.root)?;
        let processes = found.values().flatten().filter_map(|pid| {
            let known = Known::open(&self.root, &self.mounts, *pid).ok()?;
            let evident = Evident {
                uuid: Arc::from(known.line.uuid.as_deref()?),
                domain: known.line.name.clone().unwrap_or_default(),
                full: known.line.full?,
                has_balloon: known.line.has_balloon,
            };
            let resident = Status::read(&known.process).ok()?.resident;
            Some((resident, known.place.as_ref().and_then(|p| p.pod_uid().cloned()), evident))
        });
        let mut processes: Vec<_> = processes.collect();
        processes.sort_by_key(|(resident, ..)| std::cmp::Reverse(*resident));
        let mut seen = HashSet::new();
        processes.retain(|(_, pod, evident)| seen.insert((pod.clone(), Arc::clone(&evident.uuid))));
        self.turn.found = Some(found);
        Ok(processes.into_iter().map(|(_, pod, evident)| (pod, evident)).collect())
    }

    fn observe(&mut self, who: &Who<'_>, key: &Key) -> Result<HostView, ReadError> {
        if !self.known.contains_key(key) {
            let Some(known) = self.find(who)? else {
                let trouble = format!(
                    "no QEMU process with -uuid {} {}; the agent needs the host's PID namespace",
                    who.uuid,
                    who.pod_uid.map_or_else(|| "on this host".to_owned(), |pod| format!("in pod {pod}")),
                );
                return Ok(HostView { trouble: Some(trouble), ..HostView::default() });
            };
            self.known.insert(key.clone(), known);
        }
        let Some(known) = self.known.get_mut(key) else { return Ok(HostView::default()) };
        let status = Status::read(&known.process)?;
        let overhead = known.overhead(&self.root, &mut self.turn, who.full, status)?;
        known.view(status, overhead, self.capacity)
    }

    /// The process of a guest: by UUID, and in its pod.
    fn find(&mut self, who: &Who<'_>) -> Result<Option<Known>, ReadError> {
        let found = match self.turn.found.take() {
            Some(found) => found,
            None => qemus(&self.root)?,
        };
        let pids = found.get(who.uuid).cloned().unwrap_or_default();
        self.turn.found = Some(found);
        let candidates = pids.into_iter().filter_map(|pid| Known::open(&self.root, &self.mounts, pid).ok());
        let mut fitting: Vec<Known> = candidates
            .filter(|k| k.place.as_ref().and_then(CgroupPlace::pod_uid).map(AsRef::as_ref) == who.pod_uid)
            .collect();
        // A second process with this UUID is a forgery or a leftover; the guest's is the one that holds its memory.
        fitting.sort_by_cached_key(|k| Status::read(&k.process).map_or(Bytes::ZERO, |s| s.resident));
        Ok(fitting.pop())
    }
}

impl ProcessPort for ProcessFactsReader {
    /// Starts a turn: guests that nobody asked for in the last one are forgotten, and one overhead may be measured
    /// again.
    fn begin_turn(&mut self) {
        let last = std::mem::take(&mut self.turn);
        self.known.retain(|key, _| last.asked.contains(key));
    }

    fn look(&mut self, who: &Who<'_>) -> HostView {
        let key = key(who);
        self.turn.asked.insert(key.clone());
        match self.observe(who, &key) {
            Ok(view) => view,
            // The process ended since the last turn: its successor may be there already.
            Err(error) if error.is_gone() && self.known.remove(&key).is_some() => {
                self.observe(who, &key).unwrap_or_else(|e| failed(&e))
            }
            Err(error) => failed(&error),
        }
    }

    fn running(&mut self, pod_uid: Option<&str>) -> Vec<Evident> {
        if self.evident.as_ref().is_none_or(|(at, _)| at.elapsed() >= EVIDENT_AGE) {
            // Without a process table nothing is evident; `look` says why.
            self.evident = Some((Instant::now(), self.look_for_all().unwrap_or_default()));
        }
        let all = self.evident.iter().flat_map(|(_, all)| all);
        let here = all.filter(|(pod, _)| pod.as_deref() == pod_uid).map(|(_, evident)| evident.clone());
        here.take(if pod_uid.is_some() { 1 } else { usize::MAX }).collect()
    }
}

fn failed(error: &ReadError) -> HostView {
    HostView { trouble: Some(format!("{error}; the agent needs SYS_PTRACE")), ..HostView::default() }
}

impl Known {
    fn open(root: &Root, mounts: &CgroupMounts, pid: u32) -> Result<Self, ReadError> {
        let process = Proc::open(root, pid)?;
        let place = CgroupPlace::parse(&process.text("cgroup")?);
        let directories = place.as_ref().map(|p| mounts.own_directories(p)).unwrap_or_default();
        let arguments = process.arguments()?;
        let vmi_uid = arguments.iter().find_map(|a| private_directory_uid(a));
        let line = CommandLine::parse(&arguments);
        Ok(Self { process, place, directories, line, vmi_uid, overhead: None })
    }

    fn view(
        &self,
        status: Status,
        overhead: Option<Bytes>,
        capacity: Option<Bytes>,
    ) -> Result<HostView, ReadError> {
        let version = self.place.as_ref().map(CgroupPlace::version);
        let anon = match self.holds() {
            Some(holds) => holds.anon.plus(holds.shmem.unwrap_or(status.shmem)),
            None => status.anon.plus(status.shmem),
        };
        let limit = version.and_then(|v| cgroup::limit(&self.directories, v));
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
            vmi_uid: self.vmi_uid.clone(),
            guaranteed,
            facts: ProcessFacts {
                resident: Some(status.resident),
                anon: Some(anon),
                overhead,
                request: request.map(|r| limit.map_or(r, |l| r.min(l))),
                limit,
                swappable: version.and_then(|v| cgroup::swappable(&self.directories, v)),
            },
            trouble: unreached.then(|| {
                "the pod's cgroup cannot be reached, so its limit is unknown; the agent needs SYS_PTRACE and the \
                 host's PID namespace"
                    .to_owned()
            }),
        })
    }

    /// What its pod or scope holds; absent if it has none of its own.
    fn holds(&self) -> Option<Holds> {
        cgroup::holds(self.directories.first()?, self.place.as_ref()?.version())
    }

    /// The overhead as last measured; measured again when old, one guest per turn.
    fn overhead(
        &mut self,
        root: &Root,
        turn: &mut Turn,
        full: Bytes,
        status: Status,
    ) -> Result<Option<Bytes>, ReadError> {
        let due = match self.overhead {
            None => turn.first_measurements < FIRST_MEASUREMENTS,
            Some(last) => !turn.measured_again && last.at.elapsed() >= last.may_age(),
        };
        if due {
            let at = Instant::now();
            let measured = smaps::beside_guest(&self.process, full)?;
            let others = self.others(root).plus(self.files_in_memory(status));
            let bytes = measured.map(|own| own.plus(status.page_tables).plus(others));
            if let Some(last) = self.overhead {
                turn.measured_again = true;
                self.overhead = Some(Measured { at, bytes, before: last.before.saturating_add(1) });
            } else {
                turn.first_measurements = turn.first_measurements.saturating_add(at.elapsed());
                self.overhead = Some(Measured { at, bytes, before: 0 });
            }
        }
        Ok(self.overhead.and_then(|last| last.bytes))
    }

    /// What the pod keeps in tmpfs: it counts as the guest's, and is none of its memory.
    fn files_in_memory(&self, status: Status) -> Bytes {
        self.holds().and_then(|holds| holds.shmem).map_or(Bytes::ZERO, |all| all.minus(status.shmem))
    }

    /// Anonymous memory and page tables of the other processes in the pod or scope.
    fn others(&self, root: &Root) -> Bytes {
        let Some(top) = self.directories.first() else { return Bytes::ZERO };
        let mut pids = Vec::new();
        processes_below(top, 0, &mut pids);
        pids.iter()
            .filter(|pid| **pid != self.process.incarnation().pid)
            .filter_map(|pid| Status::read(&Proc::open(root, *pid).ok()?).ok())
            .map(|status| status.anon.plus(status.page_tables))
            .sum()
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

/// QEMU processes by the UUID on their command line.
fn qemus(root: &Root) -> Result<HashMap<String, Vec<u32>>, ReadError> {
    let mut found: HashMap<String, Vec<u32>> = HashMap::new();
    for pid in proc::pids(root)? {
        if !proc::name(root, pid).starts_with("qemu-") {
            continue;
        }
        let Ok(arguments) = Proc::open(root, pid).and_then(|p| p.arguments()) else { continue };
        if let Some(uuid) = CommandLine::parse(&arguments).uuid {
            found.entry(uuid).or_default().push(pid);
        }
    }
    Ok(found)
}

/// The UID in `…/kubevirt-private/<uid>/virt-serial0` (pkg/virt-launcher/virtwrap/converter, KubeVirt 1.9).
fn private_directory_uid(argument: &str) -> Option<Arc<str>> {
    let (_, rest) = argument.split_once("/kubevirt-private/")?;
    let (uid, _) = rest.split_once('/')?;
    let shape = uid.len() == 36 && uid.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    shape.then(|| Arc::from(uid))
}

#[cfg(test)]
mod tests;
