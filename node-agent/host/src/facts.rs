//! What the host's kernel says of a guest: its QEMU process, its pod, its limits.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use overcommit_core::ports::{Evident, HostView, ProcessPort, Who};
use overcommit_core::stranger::Stranger;
use overcommit_core::units::Bytes;

use crate::cgroup::CgroupPlace;
use crate::held::{ReadError, read_text};
use crate::meminfo;
use crate::mounts::CgroupMounts;
use crate::oom_score::least_request;
use crate::proc::{self, Proc};
use crate::qemu::CommandLine;
use crate::root::Root;
use crate::status::Status;
use crate::visits::Visits;

mod known;

use known::Known;

/// How old the list of guests that are known by their processes may get: it costs a look at all processes.
const EVIDENT_AGE: Duration = Duration::from_secs(5);

/// Finds QEMU processes and keeps hold of them.
#[derive(Debug)]
pub struct ProcessFactsReader {
    root: Root,
    visits: Visits,
    mounts: CgroupMounts,
    capacity: Option<Bytes>,
    known: HashMap<Key, Known>,
    /// Guests that are known by their processes, and when they were looked for.
    evident: Option<(Instant, Vec<Found>)>,
    reading: Reading,
}

/// A guest that is known by its process.
#[derive(Clone, Debug)]
struct Found {
    pid: u32,
    pod: Option<Arc<str>>,
    evident: Evident,
}

/// Pod and UUID: users choose UUIDs, so that guests of two pods may have the same.
type Key = (Option<Arc<str>>, Arc<str>);

/// What happened in this reading.
#[derive(Debug, Default)]
struct Reading {
    /// QEMU processes by UUID, if it had to look for any.
    found: Option<HashMap<String, Vec<u32>>>,
    /// Guests asked for.
    asked: HashSet<Key>,
    /// How long first measurements of overheads took.
    measured: Duration,
}

fn key(who: &Who) -> Key {
    (who.pod_uid.clone(), Arc::clone(&who.uuid))
}

impl ProcessFactsReader {
    /// A reader of the host below `root`.
    pub fn new(root: Root) -> Self {
        let memory = read_text(&root.join("proc/meminfo"), 64 << 10).ok();
        Self {
            mounts: CgroupMounts::detect(&root),
            capacity: memory.and_then(|text| meminfo::parse(&text).ok()).map(|m| m.total),
            root,
            visits: Visits::default(),
            known: HashMap::new(),
            evident: None,
            reading: Reading::default(),
        }
    }

    /// The same, passing over processes at which others of these `visits` are.
    #[must_use]
    pub fn among(self, visits: Visits) -> Self {
        Self { visits, ..self }
    }

    /// All guests with their pods, those with the most memory first; of several processes of one UUID in one place the
    /// one with the most memory.
    fn look_for_all(&mut self) -> Result<Vec<Found>, ReadError> {
        let found = qemus(&self.root, &self.visits)?;
        let processes = found.values().flatten().filter_map(|pid| self.evident(*pid).transpose());
        let mut processes: Vec<_> = processes.collect::<Result<_, _>>()?;
        processes.sort_by_key(|(resident, _)| std::cmp::Reverse(*resident));
        let mut seen = HashSet::new();
        processes.retain(|(_, f)| seen.insert((f.pod.clone(), Arc::clone(&f.evident.uuid))));
        self.reading.found = Some(found);
        Ok(processes.into_iter().map(|(_, found)| found).collect())
    }

    /// The guest of a process, with the memory that it holds; absent if it is none, or cannot be looked at.
    ///
    /// # Errors
    /// When file descriptors or memory ran out: not to be seen now is not to be gone.
    fn evident(&self, pid: u32) -> Result<Option<(Bytes, Found)>, ReadError> {
        let Some(_visit) = self.visits.enter(pid) else { return Ok(None) };
        let seen = Known::open(&self.root, &self.mounts, pid)
            .and_then(|known| Status::read(&known.process).map(|status| (known, status.resident)));
        let (known, resident) = match seen {
            Ok(seen) => seen,
            Err(error) if error.is_exhaustion() => return Err(error),
            Err(_) => return Ok(None),
        };
        let (Some(uuid), Some(full)) = (known.line.uuid.as_deref(), known.line.full) else { return Ok(None) };
        let evident = Evident {
            uuid: Arc::from(uuid),
            domain: known.line.name.clone().unwrap_or_default(),
            full,
            has_balloon: known.line.has_balloon,
        };
        let pod = known.place.as_ref().and_then(|place| place.pod_uid().cloned());
        Ok(Some((resident, Found { pid, pod, evident })))
    }

    /// What is evident, no older than [`EVIDENT_AGE`]. Without a process table nothing is, and what was so before
    /// remains; `look` says why.
    fn look_around(&mut self) -> &[Found] {
        if self.evident.as_ref().is_none_or(|(at, _)| at.elapsed() >= EVIDENT_AGE) {
            let found = self.look_for_all();
            let before = self.evident.take().map(|(_, all)| all);
            self.evident = Some((Instant::now(), found.ok().or(before).unwrap_or_default()));
        }
        self.evident.as_ref().map_or(&[], |(_, all)| all)
    }

    /// What is counted with for a pod that nobody listed. Its process is asked for nothing that takes long.
    fn stranger(&self, found: &Found) -> Option<Stranger> {
        let _visit = self.visits.enter(found.pid)?;
        let known = Known::open(&self.root, &self.mounts, found.pid).ok()?;
        if known.place.as_ref().and_then(CgroupPlace::pod_uid) != found.pod.as_ref() {
            return None;
        }
        let view = known.view(Status::read(&known.process).ok()?, None, self.capacity).ok()?;
        let (held, bound) = (view.facts.anon, view.facts.bound);
        // Many small ones must not cost more together than they requested.
        let request = if view.guaranteed {
            view.facts.request
        } else {
            self.capacity.zip(known.process.oom_score().ok()).and_then(|(c, score)| least_request(score, c))
        };
        Some(Stranger { pod: found.pod.clone()?, claim: found.evident.full, held, request, bound })
    }

    fn observe(&mut self, who: &Who, key: &Key) -> Result<HostView, ReadError> {
        if !self.known.contains_key(key) {
            let Some(known) = self.find(who)? else {
                let trouble = Some(self.not_found(who));
                return Ok(HostView { trouble, ..HostView::default() });
            };
            self.known.insert(key.clone(), known);
        }
        let Some(known) = self.known.get_mut(key) else { return Ok(HostView::default()) };
        let Some(_visit) = self.visits.enter(known.process.incarnation().pid) else {
            let trouble = Some("the host's kernel does not answer about its process".to_owned());
            return Ok(HostView { trouble, ..HostView::default() });
        };
        let status = Status::read(&known.process)?;
        let overhead = known.overhead(&self.root, &mut self.reading.measured, who, status)?;
        known.view(status, overhead, self.capacity)
    }

    fn not_found(&self, who: &Who) -> String {
        let place =
            who.pod_uid.as_ref().map_or_else(|| "on this host".to_owned(), |pod| format!("in pod {pod}"));
        let why = if self.visits.are_any() {
            "the host's kernel does not answer about all processes"
        } else {
            "the agent needs the host's PID namespace"
        };
        format!("no QEMU process with -uuid {} {place}; {why}", who.uuid)
    }

    /// The process of a guest: by UUID, and in its pod.
    fn find(&mut self, who: &Who) -> Result<Option<Known>, ReadError> {
        let found = match self.reading.found.take() {
            Some(found) => found,
            None => qemus(&self.root, &self.visits)?,
        };
        let pids = found.get(&*who.uuid).cloned().unwrap_or_default();
        self.reading.found = Some(found);
        let candidates = pids.into_iter().filter_map(|pid| {
            let _visit = self.visits.enter(pid)?;
            Known::open(&self.root, &self.mounts, pid).ok()
        });
        let in_place = |k: &Known| k.place.as_ref().and_then(CgroupPlace::pod_uid) == who.pod_uid.as_ref();
        let mut fitting: Vec<Known> = candidates.filter(in_place).collect();
        // A second process with this UUID is a forgery or a leftover; the guest's is the one that holds its memory.
        fitting.sort_by_cached_key(|k| Status::read(&k.process).map_or(Bytes::ZERO, |s| s.resident));
        Ok(fitting.pop())
    }
}

impl ProcessPort for ProcessFactsReader {
    /// Guests that nobody asked for in the last reading are forgotten.
    fn begin_reading(&mut self) {
        let last = std::mem::take(&mut self.reading);
        self.known.retain(|key, _| last.asked.contains(key));
    }

    fn look(&mut self, who: &Who) -> HostView {
        let key = key(who);
        self.reading.asked.insert(key.clone());
        match self.observe(who, &key) {
            Ok(view) => view,
            // The process ended since the last reading: its successor may be there already.
            Err(error) if error.is_gone() && self.known.remove(&key).is_some() => {
                self.observe(who, &key).unwrap_or_else(|e| failed(&e))
            }
            Err(error) => failed(&error),
        }
    }

    fn running(&mut self, pod_uid: Option<&str>) -> Vec<Evident> {
        let here =
            self.look_around().iter().filter(|f| f.pod.as_deref() == pod_uid).map(|f| f.evident.clone());
        here.take(if pod_uid.is_some() { 1 } else { usize::MAX }).collect()
    }

    fn strangers(&mut self, pods: &[Arc<str>]) -> Vec<Stranger> {
        if pods.is_empty() {
            return Vec::new();
        }
        let all = self.look_around();
        // Those with the most memory come first.
        let of = |pod: &Arc<str>| all.iter().find(|f| f.pod.as_ref() == Some(pod)).cloned();
        let found: Vec<Found> = pods.iter().filter_map(of).collect();
        found.iter().filter_map(|found| self.stranger(found)).collect()
    }

    /// One overhead is measured again, the oldest that is due.
    fn end_reading(&mut self) {
        let due = self.known.values_mut().filter_map(|known| Some((known.overdue()?, known)));
        let Some((_, known)) = due.max_by_key(|(overdue, _)| *overdue) else { return };
        if let Some(_visit) = self.visits.enter(known.process.incarnation().pid) {
            // A process that ended is noticed by the next look.
            drop(known.measure_again(&self.root));
        }
    }
}

fn failed(error: &ReadError) -> HostView {
    HostView { trouble: Some(format!("{error}; the agent needs SYS_PTRACE")), ..HostView::default() }
}

/// QEMU processes by the UUID on their command line, but for those at which somebody else is.
fn qemus(root: &Root, visits: &Visits) -> Result<HashMap<String, Vec<u32>>, ReadError> {
    let mut found: HashMap<String, Vec<u32>> = HashMap::new();
    for pid in proc::pids(root)? {
        if !proc::name(root, pid)?.starts_with("qemu-") {
            continue;
        }
        let Some(_visit) = visits.enter(pid) else { continue };
        let arguments = match Proc::open(root, pid).and_then(|p| p.arguments()) {
            Ok(arguments) => arguments,
            Err(error) if error.is_exhaustion() => return Err(error),
            Err(_) => continue,
        };
        if let Some(uuid) = CommandLine::parse(&arguments).uuid {
            found.entry(uuid).or_default().push(pid);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
