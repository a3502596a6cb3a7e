//! One reconcile, pure: from all that is known to the writes that are missing. Nothing is planned that the API has
//! already, so that a plan after its own writes is empty.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use overcommit_crds::condition::Condition;
use overcommit_crds::names::{RELEASE_FINALIZER, condition};
use overcommit_crds::{NodeOvercommitSpec, OvercommitPolicyStatus};

use crate::build::{self, LeftOut, Population};
use crate::dirty::Dirty;
use crate::events::Note;
use crate::index::{Index, Source, Watch};
use crate::object::{Meta, Object, Policy};
use crate::release::{self, Step};
use crate::select::{Selection, is_sound};
use crate::status::{self, Facts, RELEASE_TIMEOUT};
use crate::verdict::Verdict;

/// Pause after a write of a policy's status whose conditions or counts changed.
const STATUS_PAUSE: Duration = Duration::from_secs(3);
/// Pause where only sums changed: agents report every 30 s at most, and nobody reads sums faster.
const SUMS_PAUSE: Duration = Duration::from_mins(1);

/// One write that is missing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Write {
    /// What is written.
    pub(crate) change: Desired,
    /// Time that must have passed since the last write of the same thing.
    pub(crate) pause: Duration,
    /// What to tell once it is written.
    pub(crate) notes: Vec<Note>,
}

/// What is written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Desired {
    /// The finalizers of a policy, as long as it has not changed meanwhile.
    Finalizers { policy: String, uid: String, version: String, finalizers: Vec<String> },
    /// A node's object.
    Object { node: String, node_uid: String, spec: Box<NodeOvercommitSpec> },
    /// A node gives everything back; nothing else of its object's spec changes.
    Release { node: String, uid: String },
    /// The finalizers of a node's object, as long as it has not changed meanwhile.
    Unhold { node: String, uid: String, version: String, finalizers: Vec<String> },
    /// A node's object goes.
    Delete { node: String, uid: String },
    /// A policy's status.
    Status { policy: String, uid: String, status: Box<OvercommitPolicyStatus> },
}

/// What a write is about: at most one write of a key is under way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    /// `finalizers`, `object` or `status`.
    pub(crate) kind: &'static str,
    /// Name of the policy or node.
    pub(crate) name: String,
}

impl Key {
    /// A node's object.
    pub(crate) fn object(node: &str) -> Self {
        Self { kind: "object", name: node.to_owned() }
    }
}

impl Write {
    /// What it is about.
    pub(crate) fn key(&self) -> Key {
        let (kind, name) = match &self.change {
            Desired::Finalizers { policy, .. } => ("finalizers", policy),
            Desired::Object { node, .. }
            | Desired::Release { node, .. }
            | Desired::Unhold { node, .. }
            | Desired::Delete { node, .. } => ("object", node),
            Desired::Status { policy, .. } => ("status", policy),
        };
        Key { kind, name: name.clone() }
    }

    fn of(change: Desired) -> Self {
        Self { change, pause: Duration::ZERO, notes: Vec::new() }
    }

    fn telling(self, note: Note) -> Self {
        Self { notes: vec![note], ..self }
    }
}

/// What is to be done, and when to look again even if nothing happens.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Writes that are missing, but for the specs of nodes.
    pub(crate) writes: Vec<Write>,
    /// Nodes whose objects are missing or not as they should: what is written comes from [`specs_of`], when it is
    /// written, for thousands of specs at once would need room.
    pub(crate) nodes: Vec<String>,
    /// The next instant at which time alone changes the plan.
    pub(crate) wake: Option<Timestamp>,
}

impl Plan {
    /// Looks again at that time, if it is still to come.
    fn wake_at(&mut self, at: Option<Timestamp>, now: Timestamp) {
        self.wake = [self.wake, at.filter(|at| *at > now)].into_iter().flatten().min();
    }
}

/// What is known of the nodes' objects from earlier plans.
#[derive(Debug, Default)]
pub(crate) struct Known {
    nodes: BTreeMap<String, Held>,
}

/// What is known of one node that a policy takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    /// Its object is not as it should.
    wanting: bool,
    /// What its object does not list.
    left_out: LeftOut,
}

/// Plans one reconcile; `timeout` is how long a deletion waits for its nodes.
///
/// From what has not been listed nothing may be concluded: a node that is not known yet is not gone, and a guest that
/// is not is not to be left out. But the way out needs no more than it reads: a watch that cannot list must not keep
/// memory from coming back, nor a deletion from ending.
///
/// `known` is what plans before this one found, and `dirty` says which nodes to look at again; it is used up.
pub(crate) fn plan(
    index: &Index,
    (known_before, dirty): (&mut Known, &mut Dirty),
    now: Timestamp,
    timeout: Duration,
) -> Plan {
    let waiting = index.waiting();
    let lacks = |needed: Watch| waiting.contains(&needed);
    let mut plan = Plan::default();
    let known = !lacks(Watch::Policies) && !lacks(Watch::Objects);
    let selection = if known && !lacks(Watch::Nodes) { Some(Selection::of(index)) } else { None };
    let time = (now, timeout);
    let left_out = match &selection {
        Some(selection) if waiting.is_empty() => {
            releases(index, selection, time, &mut plan);
            known_before.renew(index, selection, &std::mem::take(dirty));
            plan.nodes = known_before.wanting();
            known_before.left_out(selection)
        }
        Some(selection) => {
            releases(index, selection, time, &mut plan);
            BTreeMap::new()
        }
        None => BTreeMap::new(),
    };
    let selection = selection.unwrap_or_default();
    let hindered = index.troubles(now).next().is_some();
    for policy in index.policies.values() {
        if waiting.is_empty() || (known && policy.deleted.is_some()) {
            let facts = Facts {
                claim: selection.claim_of(&policy.name),
                blockers: release::blockers(policy, index, &selection),
                left_out: left_out.get(policy.name.as_str()).copied().unwrap_or_default(),
                timeout,
                overdue: release::deadline(policy.deleted, timeout).is_some_and(|end| end <= now),
            };
            one(policy, &facts, index, now, &mut plan);
        } else if hindered {
            plan.writes.extend(report(policy, status::blocked(policy, &waiting, index, now)));
        }
    }
    plan
}

fn one(policy: &Policy, facts: &Facts<'_>, index: &Index, now: Timestamp, plan: &mut Plan) {
    let finalizers = finalizers(policy, facts);
    // One after the other: a status that is written at the same time makes the finalizers' write a conflict.
    let first = finalizers.is_some();
    plan.writes.extend(finalizers);
    if !first && let Some(status) = told(policy, facts, index, now) {
        plan.writes.extend(report(policy, status));
    }
    plan.wake_at(release::deadline(policy.deleted, facts.timeout), now);
}

/// What is reported of it. Of a program that nobody has read yet nothing, but for what hinders that.
fn told(policy: &Policy, facts: &Facts<'_>, index: &Index, now: Timestamp) -> Option<OvercommitPolicyStatus> {
    if policy.is_unread() && policy.deleted.is_none() {
        let hinders = |source: &Source| source.watch() == Watch::ConfigMaps && source.concerns(policy);
        let hindered = index.troubles(now).any(|(source, _)| hinders(source));
        return hindered.then(|| status::blocked(policy, &[Watch::ConfigMaps], index, now));
    }
    Some(status::status(policy, facts, index, now))
}

/// The finalizer comes before anything is given to a node, and goes when nothing is left there, or when it was
/// reported that the waiting is over.
fn finalizers(policy: &Policy, facts: &Facts<'_>) -> Option<Write> {
    let told = |c: &Condition| c.reason == RELEASE_TIMEOUT && c.status == true.into();
    let reported = Condition::find(&policy.status.conditions, condition::DEGRADED).is_some_and(told);
    let done = facts.blockers.is_empty() || (facts.overdue && reported);
    let mut finalizers = policy.finalizers.clone();
    match (policy.deleted.is_some(), policy.held_by_us()) {
        (false, false) => finalizers.push(RELEASE_FINALIZER.to_owned()),
        (true, true) if done => finalizers.retain(|f| f != RELEASE_FINALIZER),
        _ => return None,
    }
    let Policy { name, uid, version, .. } = policy;
    let (policy, uid, version) = (name.clone(), uid.clone(), version.clone());
    Some(Write::of(Desired::Finalizers { policy, uid, version, finalizers }))
}

impl Known {
    /// Looks at the dirty nodes.
    fn renew(&mut self, index: &Index, selection: &Selection<'_>, dirty: &Dirty) {
        if dirty.is_empty() {
            return;
        }
        let population = Population::of(index);
        self.nodes.retain(|name, _| index.nodes.contains_key(name));
        for (name, node) in index.nodes.iter().filter(|(name, _)| dirty.contains(name)) {
            match hold(index, selection, node, &population) {
                Some((write, left_out)) => {
                    self.nodes.insert(name.clone(), Held { wanting: write.is_some(), left_out });
                }
                None => {
                    self.nodes.remove(name);
                }
            }
        }
    }

    fn wanting(&self) -> Vec<String> {
        self.nodes.iter().filter(|(_, held)| held.wanting).map(|(name, _)| name.clone()).collect()
    }

    /// What the objects do not list, by policy.
    fn left_out<'a>(&self, selection: &Selection<'a>) -> BTreeMap<&'a str, LeftOut> {
        let mut left_out: BTreeMap<_, LeftOut> = BTreeMap::new();
        for (name, held) in self.nodes.iter().filter(|(_, held)| held.left_out != LeftOut::default()) {
            if let Some(policy) = selection.holder(name) {
                *left_out.entry(policy.name.as_str()).or_default() += held.left_out;
            }
        }
        left_out
    }
}

/// What is to be written to these nodes' objects, as things stand now.
pub(crate) fn specs_of(index: &Index, names: &[String]) -> Vec<Write> {
    let (selection, population) = (Selection::of(index), Population::of(index));
    let nodes = names.iter().filter_map(|name| index.nodes.get(name));
    nodes.filter_map(|node| hold(index, &selection, node, &population)?.0).collect()
}

/// Plans what is to go: objects that no policy takes, and those that somebody deletes.
fn releases(
    index: &Index,
    selection: &Selection<'_>,
    (now, timeout): (Timestamp, Duration),
    plan: &mut Plan,
) {
    for (name, object) in &index.objects {
        if selection.holder(name).is_some() && object.deleted.is_none() {
            continue;
        }
        let end = release::deadline(object.deleted, timeout);
        plan.wake_at(end, now);
        let write = let_go(object, index.nodes.get(name), end.is_some_and(|end| end <= now));
        plan.writes.extend(write);
    }
}

/// The write that a node's object needs, if any, and what is not in it; nothing if no policy takes the node
/// or its object is going.
fn hold(
    index: &Index,
    selection: &Selection<'_>,
    node: &Meta,
    guests: &Population<'_>,
) -> Option<(Option<Write>, LeftOut)> {
    let policy = selection.holder(&node.name).filter(|policy| policy.held_by_us())?;
    let object = index.objects.get(&node.name);
    if object.is_some_and(|object| object.deleted.is_some()) {
        return None;
    }
    let before = object.and_then(|o| o.spec.as_ref());
    let built = match (&policy.verdict, before) {
        (Verdict::Valid(checked), _) => build::spec(&policy.name, checked, node, guests, index),
        (Verdict::Stuck(stuck), _) => {
            let own = before.filter(|spec| spec.policy == policy.name);
            let sound = own.filter(|spec| is_sound(spec));
            let good = sound.or_else(|| selection.last_good(&policy.name)).or(own)?;
            build::kept(good, stuck, node, guests, index)
        }
        (Verdict::Invalid { .. }, Some(spec)) => build::frozen(spec, node, guests, index),
        (Verdict::Invalid { .. }, None) => return None,
    };
    let as_is = object.is_some_and(|o| {
        o.spec.as_ref() == Some(&built.spec)
            && o.label.as_deref() == Some(&policy.name)
            && o.owner.as_deref() == Some(&node.uid)
            && o.held_by_us()
    });
    let taken = object.is_none_or(|o| o.policy() != policy.name || o.release_requested);
    let change =
        Desired::Object { node: node.name.clone(), node_uid: node.uid.clone(), spec: Box::new(built.spec) };
    let mut write = Write::of(change);
    if taken {
        write = write.telling(Note::taken(policy, &node.name));
    }
    Some(((!as_is).then_some(write), built.left_out))
}

fn let_go(object: &Object, node: Option<&Meta>, overdue: bool) -> Option<Write> {
    let (node_exists, uid) = (node.is_some(), object.uid.clone());
    let node = object.name.clone();
    match release::step(object, node_exists, overdue) {
        Step::Wait => None,
        // The rest stays as it is: an agent that gives back needs its guests and its policy.
        Step::Ask => Some(Write::of(Desired::Release { node, uid }).telling(Note::asked(object))),
        Step::Unhold => Some(Write::of(unheld(object)).telling(Note::released(object, node_exists))),
        Step::GiveUp => Some(Write::of(unheld(object)).telling(Note::overdue(object))),
        Step::Delete => Some(Write::of(Desired::Delete { node, uid })),
    }
}

fn unheld(object: &Object) -> Desired {
    let Object { name, uid, version, finalizers, .. } = object;
    let finalizers = finalizers.iter().filter(|f| *f != RELEASE_FINALIZER).cloned().collect();
    Desired::Unhold { node: name.clone(), uid: uid.clone(), version: version.clone(), finalizers }
}

/// The write of a status, if it tells anything new.
fn report(policy: &Policy, status: OvercommitPolicyStatus) -> Option<Write> {
    if status == policy.status {
        return None;
    }
    let same_but_sums =
        OvercommitPolicyStatus { memory: status.memory.clone(), ..policy.status.clone() } == status;
    let appeared = policy.status.memory.is_none() != status.memory.is_none();
    let pause = if same_but_sums && !appeared { SUMS_PAUSE } else { STATUS_PAUSE };
    let notes = Note::changes(policy, &status.conditions);
    let (name, uid) = (policy.name.clone(), policy.uid.clone());
    Some(Write { change: Desired::Status { policy: name, uid, status: Box::new(status) }, pause, notes })
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "program_tests.rs"]
mod programs;
