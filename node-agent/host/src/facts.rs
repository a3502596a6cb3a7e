//! What the host's kernel says of a guest: its QEMU process, its pod, its limits.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use overcommit_core::ports::{Evident, HostView, ProcessPort, Who};
use overcommit_core::sample::Incarnation;
use overcommit_core::stranger::Stranger;
use overcommit_core::units::Bytes;

use crate::held::{ReadError, read_text};
use crate::meminfo;
use crate::mounts::CgroupMounts;
use crate::oom_score::least_request;
use crate::root::Root;
use crate::status::Status;
use crate::visits::Visits;

mod known;
mod processes;

use known::Known;
use processes::{Pod, Processes, Seen};

/// How old the list of a pod's guests that are known by their processes may get: it costs a look at all processes.
const EVIDENT_AGE: Duration = Duration::from_secs(5);

/// Finds QEMU processes and keeps hold of them.
#[derive(Debug)]
pub struct ProcessFactsReader {
    root: Root,
    visits: Visits,
    mounts: CgroupMounts,
    capacity: Option<Bytes>,
    known: HashMap<Key, Known>,
    /// Guests that are known by their processes, by pod, and when they were looked for.
    evident: HashMap<Pod, (Instant, Vec<Found>)>,
    reading: Reading,
}

/// A guest that is known by its process.
#[derive(Clone, Debug)]
struct Found {
    process: Incarnation,
    evident: Evident,
}

/// Pod and UUID: users choose UUIDs, so that guests of two pods may have the same.
type Key = (Pod, Arc<str>);

/// What happened in this reading.
#[derive(Debug, Default)]
struct Reading {
    processes: Processes,
    /// Guests asked for.
    asked: HashSet<Key>,
    /// Pods asked about.
    pods: HashSet<Pod>,
    /// How long first measurements of overheads took.
    measured: Duration,
}

impl Found {
    /// Absent if the process is no guest's.
    fn new(seen: &Seen) -> Option<Self> {
        let evident = Evident {
            uuid: Arc::from(seen.line.uuid.as_deref()?),
            domain: seen.line.name.clone().unwrap_or_default(),
            full: seen.line.full?,
            has_balloon: seen.line.has_balloon,
        };
        Some(Self { process: seen.process, evident })
    }
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
            evident: HashMap::new(),
            reading: Reading::default(),
        }
    }

    /// The same, passing over processes at which others of these `visits` are.
    #[must_use]
    pub fn among(self, visits: Visits) -> Self {
        Self { visits, ..self }
    }

    /// The guests of a pod, or those outside of pods, the one with the most memory first; of several processes of one UUID
    /// the one with the most memory.
    fn look_in(&mut self, pod: &Pod) -> Result<Vec<Found>, ReadError> {
        let seen = self.reading.processes.of(pod, &self.root, &self.visits)?;
        let mut known = HashSet::new();
        let guests = seen.iter().filter_map(Found::new);
        Ok(guests.filter(|found| known.insert(Arc::clone(&found.evident.uuid))).collect())
    }

    /// What is evident of a pod, no older than [`EVIDENT_AGE`]. Without a process table nothing is, and what was so before
    /// remains; `look` says why.
    fn look_around(&mut self, pod: &Pod) -> &[Found] {
        self.reading.pods.insert(pod.clone());
        if self.evident.get(pod).is_none_or(|(at, _)| at.elapsed() >= EVIDENT_AGE) {
            let found = self.look_in(pod);
            let before = self.evident.remove(pod).map(|(_, all)| all);
            let evident = (Instant::now(), found.ok().or(before).unwrap_or_default());
            self.evident.insert(pod.clone(), evident);
        }
        self.evident.get(pod).map_or(&[], |(_, all)| all)
    }

    /// What is counted with for a pod that nobody listed. Its process is asked for nothing that takes long.
    fn stranger(&mut self, pod: &Arc<str>) -> Option<Stranger> {
        let place = Some(Arc::clone(pod));
        let Found { process, evident } = self.look_around(&place).first()?.clone();
        let _visit = self.visits.enter(process.pid)?;
        let known = Known::open(&self.root, &self.mounts, process.pid).ok()?;
        if !known.is(process, &place) {
            return None;
        }
        let view = known.view(Status::read(&known.process).ok()?, None, self.capacity).ok()?;
        // What it may have merged with others it may have to get anew.
        let once = |anon: Bytes| anon.minus(view.facts.repeated.unwrap_or_default());
        let (held, bound) = (view.facts.anon.map(once), view.facts.bound);
        // Many small ones must not cost more together than they requested.
        let request = if view.guaranteed {
            view.facts.request
        } else {
            self.capacity.zip(known.process.oom_score().ok()).and_then(|(c, score)| least_request(score, c))
        };
        Some(Stranger { pod: Arc::clone(pod), claim: evident.full, held, request, bound })
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

    /// The process of a guest: by UUID, and in its pod. A second one with this UUID is a forgery or a leftover; the guest's
    /// is the one that holds its memory.
    fn find(&mut self, who: &Who) -> Result<Option<Known>, ReadError> {
        let seen = self.reading.processes.of(&who.pod_uid, &self.root, &self.visits)?;
        let open = |seen: &Seen| {
            let _visit = self.visits.enter(seen.process.pid)?;
            let known = Known::open(&self.root, &self.mounts, seen.process.pid).ok()?;
            known.is(seen.process, &who.pod_uid).then_some(known)
        };
        Ok(seen.iter().filter(|seen| seen.line.uuid.as_deref() == Some(&*who.uuid)).find_map(open))
    }
}

impl ProcessPort for ProcessFactsReader {
    /// Guests and pods that nobody asked for in the last reading are forgotten.
    fn begin_reading(&mut self) {
        let last = std::mem::take(&mut self.reading);
        self.known.retain(|key, _| last.asked.contains(key));
        self.evident.retain(|pod, _| last.pods.contains(pod));
    }

    fn look(&mut self, who: &Who) -> HostView {
        let key = key(who);
        self.reading.asked.insert(key.clone());
        self.reading.pods.insert(who.pod_uid.clone());
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
        let pod = pod_uid.map(Arc::from);
        let here = self.look_around(&pod).iter().map(|found| found.evident.clone());
        here.take(if pod.is_some() { 1 } else { usize::MAX }).collect()
    }

    fn strangers(&mut self, pods: &[Arc<str>]) -> Vec<Stranger> {
        pods.iter().filter_map(|pod| self.stranger(pod)).collect()
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
    let remedy = if error.is_refusal() { "; the agent needs SYS_PTRACE" } else { "" };
    HostView { trouble: Some(format!("{error}{remedy}")), ..HostView::default() }
}

#[cfg(test)]
mod tests;
