//! The guests' port: asks all connections at once and waits until one common deadline.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use overcommit_core::plan::{Command, Outcome};
use overcommit_core::ports::{GuestPort, ProcessPort, Who};
use overcommit_core::sample::{GuestId, GuestSample};

use crate::connection::{Connection, ConnectionReport, Directory};
use crate::domain::Observation;
use crate::link::{Answer, Link, Reply, Request};
use crate::session::{Listed, Order, Scope};
use crate::target::{ConnectionKey, Target};

/// How long the caller waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// For one sample of all guests.
    pub sample: Duration,
    /// For one set of commands.
    pub commands: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { sample: Duration::from_secs(2), commands: Duration::from_secs(5) }
    }
}

/// All guests of a node, behind deadlines.
pub struct Guests {
    /// Lists the domains of a host without Kubernetes.
    directory: Option<Directory>,
    connections: BTreeMap<ConnectionKey, Connection>,
    /// Given up while a call was under way; used again if the same target comes back.
    retired: Vec<(ConnectionKey, Link)>,
    /// Where each guest of the last sample is.
    places: HashMap<GuestId, (ConnectionKey, Arc<str>)>,
    facts: Box<dyn ProcessPort + Send>,
    deadlines: Deadlines,
    answers: Receiver<Answer>,
    sender: Sender<Answer>,
    next_link: u64,
}

impl Guests {
    /// The guests of one libvirt, say `qemu:///system`.
    pub fn standalone(uri: &str, facts: Box<dyn ProcessPort + Send>) -> Self {
        Self { directory: Some(Directory::new(uri)), ..Self::in_cluster(facts) }
    }

    /// The guests of launcher pods; none until [`Guests::set_launchers`].
    pub fn in_cluster(facts: Box<dyn ProcessPort + Send>) -> Self {
        let (sender, answers) = channel();
        Self {
            directory: None,
            connections: BTreeMap::new(),
            retired: Vec::new(),
            places: HashMap::new(),
            facts,
            deadlines: Deadlines::default(),
            answers,
            sender,
            next_link: 0,
        }
    }

    /// The same with other deadlines.
    #[must_use]
    pub fn with_deadlines(self, deadlines: Deadlines) -> Self {
        Self { deadlines, ..self }
    }

    /// Says which launchers there are now. Guests of all others are gone; a launcher with another target is
    /// connected to anew, and what was last seen of its guests stands until it answers.
    pub fn set_launchers(&mut self, launchers: Vec<(ConnectionKey, Target)>) {
        let wanted: BTreeMap<ConnectionKey, Target> = launchers.into_iter().collect();
        let gone: Vec<ConnectionKey> =
            self.connections.keys().filter(|k| !wanted.contains_key(k)).cloned().collect();
        for key in gone {
            self.retire(&key);
        }
        for (key, target) in wanted {
            let moved = self.connections.get(&key).is_some_and(|c| !target.same(&c.link.target));
            let seen = if moved { self.retire(&key) } else { Vec::new() };
            self.connect(key.clone(), target, Scope::Launcher);
            if let Some(connection) = self.connections.get_mut(&key).filter(|_| moved) {
                connection.seen = seen;
            }
        }
    }

    /// How each connection is.
    pub fn connections(&self) -> Vec<ConnectionReport> {
        let directory = self.directory.iter().map(|d| ConnectionReport { key: None, state: d.state() });
        let each = self
            .connections
            .iter()
            .map(|(key, c)| ConnectionReport { key: Some(key.clone()), state: c.state() });
        directory.chain(each).collect()
    }

    /// Connects unless connected.
    fn connect(&mut self, key: ConnectionKey, target: Target, scope: Scope) {
        if self.connections.contains_key(&key) {
            return;
        }
        let again = self.retired.iter().position(|(k, link)| *k == key && link.target.same(&target));
        let link = match again {
            Some(at) => self.retired.swap_remove(at).1,
            None => match self.start(target) {
                Ok(link) => link,
                Err(error) => {
                    tracing::warn!(connection = %key, %error, "no thread for a connection; tried again next turn");
                    return;
                }
            },
        };
        self.connections.insert(key, Connection::new(link, scope));
    }

    fn start(&mut self, target: Target) -> std::io::Result<Link> {
        self.next_link = self.next_link.wrapping_add(1);
        Link::start(self.next_link, target, self.sender.clone())
    }

    /// Gives a connection up and says what was last seen through it. Its thread ends by itself, unless it is stuck:
    /// then the link is kept, so that the same target never has two stuck threads.
    fn retire(&mut self, key: &ConnectionKey) -> Vec<Observation> {
        let Some(connection) = self.connections.remove(key) else { return Vec::new() };
        if connection.link.asked.is_some() {
            self.retired.push((key.clone(), connection.link));
        }
        connection.seen
    }

    /// Takes answers in until `deadline` or until none is waited for, and then those that are there. Results of
    /// orders go to `results`.
    fn collect(
        &mut self,
        deadline: Instant,
        since: Instant,
        results: &mut HashMap<usize, Result<(), String>>,
    ) {
        while self.is_waiting(since) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.answers.recv_timeout(left) {
                Ok(answer) => self.take(answer, results),
                Err(_) => return,
            }
        }
    }

    /// True while a request sent after `since` is unanswered; older ones are not waited for again. The list of
    /// domains, which libvirt holds back for seconds while one starts, is waited for only while none is known.
    fn is_waiting(&self, since: Instant) -> bool {
        let directory = self.directory.as_ref().filter(|_| self.connections.is_empty());
        let links = self.connections.values().map(|c| &c.link).chain(directory.and_then(|d| d.link.as_ref()));
        links.filter_map(|link| link.asked).any(|asked| asked >= since)
    }

    fn take(&mut self, answer: Answer, results: &mut HashMap<usize, Result<(), String>>) {
        if let Reply::CarriedOut(outcomes) = answer.reply {
            results.extend(outcomes);
            if let Some(c) = self.connections.values_mut().find(|c| c.link.id == answer.link) {
                c.link.asked = None;
            }
            self.retired.retain(|(_, link)| link.id != answer.link);
            return;
        }
        if let Some(directory) = self.directory.as_mut().filter(|d| d.is(answer.link)) {
            let listed = directory.take(answer.reply);
            if let Some(listed) = listed {
                self.set_domains(listed);
            }
        } else if let Some(c) = self.connections.values_mut().find(|c| c.link.id == answer.link) {
            c.take(answer.reply);
        } else {
            self.retired.retain(|(_, link)| link.id != answer.link);
        }
    }

    /// The domains of a host without Kubernetes, as just listed; new ones are asked at once.
    fn set_domains(&mut self, listed: Vec<Listed>) {
        let Some(directory) = &self.directory else { return };
        let target = Target::Uri(Arc::clone(&directory.uri));
        let known: Vec<ConnectionKey> = self.connections.keys().cloned().collect();
        for key in known.iter().filter(|key| !listed.iter().any(|l| *l.uuid == *key.as_str())) {
            self.retire(key);
        }
        for domain in listed {
            let key = ConnectionKey::new(Arc::clone(&domain.uuid));
            let is_new = !self.connections.contains_key(&key);
            self.connect(key.clone(), target.clone(), Scope::Domain(domain.clone()));
            if let Some(connection) = self.connections.get_mut(&key) {
                connection.scope = Scope::Domain(domain);
                if is_new {
                    connection.link.ask(Request::Observe(connection.scope.clone()));
                }
            }
        }
    }

    /// Sends the requests of one sample.
    fn ask_all(&mut self) {
        if let Some(mut directory) = self.directory.take() {
            if directory.link.is_none() {
                let started = self.start(Target::Uri(Arc::clone(&directory.uri)));
                directory.trouble = started.as_ref().err().map(ToString::to_string);
                directory.link = started.ok();
            }
            if let Some(link) = &mut directory.link {
                link.ask(Request::List);
            }
            self.directory = Some(directory);
        }
        for connection in self.connections.values_mut() {
            connection.fresh = false;
            connection.link.ask(Request::Observe(connection.scope.clone()));
        }
    }

    fn samples(&mut self) -> Vec<GuestSample> {
        self.facts.begin_turn();
        self.places.clear();
        let in_cluster = self.directory.is_none();
        let mut samples = Vec::new();
        for (key, connection) in &self.connections {
            let pod_uid = in_cluster.then(|| key.as_str());
            let unseen = unseen(self.facts.as_mut(), key, connection, in_cluster);
            for seen in connection.seen.iter().chain(&unseen) {
                let id = match pod_uid {
                    Some(pod) => GuestId::new(format!("{pod}/{}", seen.uuid)),
                    None => GuestId::new(Arc::clone(&seen.uuid)),
                };
                self.places.insert(id.clone(), (key.clone(), Arc::clone(&seen.uuid)));
                let host = self.facts.look(&who(pod_uid, seen));
                samples.push(connection.sample(id, in_cluster, seen, host));
            }
        }
        if let Some(directory) = self.directory.as_ref().filter(|d| !d.answered) {
            for seen in self.facts.running(None).into_iter().map(Observation::of_process) {
                let host = self.facts.look(&who(None, &seen));
                samples.push(directory.sample(&seen, host));
            }
        }
        samples
    }
}

fn who<'a>(pod_uid: Option<&'a str>, seen: &'a Observation) -> Who<'a> {
    Who { pod_uid, uuid: &seen.uuid, full: seen.config.full }
}

/// Guests of a connection that does not answer whose processes run and that were never seen through it.
fn unseen(
    facts: &mut dyn ProcessPort,
    key: &ConnectionKey,
    connection: &Connection,
    in_cluster: bool,
) -> Vec<Observation> {
    if !connection.is_silent() {
        return Vec::new();
    }
    let mut running = facts.running(in_cluster.then(|| key.as_str()));
    running.retain(|guest| {
        (in_cluster || *guest.uuid == *key.as_str()) && connection.seen.iter().all(|s| s.uuid != guest.uuid)
    });
    running.into_iter().map(Observation::of_process).collect()
}

impl GuestPort for Guests {
    fn sample(&mut self) -> Vec<GuestSample> {
        let start = Instant::now();
        let mut late = HashMap::new();
        while let Ok(answer) = self.answers.try_recv() {
            self.take(answer, &mut late);
        }
        self.ask_all();
        self.collect(start.checked_add(self.deadlines.sample).unwrap_or(start), start, &mut late);
        self.samples()
    }

    fn apply(&mut self, commands: &[Command]) -> Vec<Outcome> {
        let start = Instant::now();
        let mut results = HashMap::new();
        while let Ok(answer) = self.answers.try_recv() {
            self.take(answer, &mut HashMap::new());
        }
        let mut orders: BTreeMap<ConnectionKey, Vec<(usize, Arc<str>, Order)>> = BTreeMap::new();
        for (place, command) in commands.iter().enumerate() {
            match self.places.get(command.id()) {
                Some((key, uuid)) => {
                    orders.entry(key.clone()).or_default().push((place, Arc::clone(uuid), order(command)));
                }
                None => drop(results.insert(place, Err("no such guest in the last sample".to_owned()))),
            }
        }
        for (key, orders) in orders {
            let places: Vec<usize> = orders.iter().map(|(place, ..)| *place).collect();
            let sent = self.connections.get_mut(&key).is_some_and(|c| c.link.ask(Request::CarryOut(orders)));
            if !sent {
                let why = || "not sent: its libvirt has not answered the last request yet".to_owned();
                results.extend(places.into_iter().map(|place| (place, Err(why()))));
            }
        }
        self.collect(start.checked_add(self.deadlines.commands).unwrap_or(start), start, &mut results);
        let silence = || format!("no answer within {:?}; it may still take effect", self.deadlines.commands);
        let outcome = |(place, command): (usize, &Command)| Outcome {
            command: command.clone(),
            result: results.remove(&place).unwrap_or_else(|| Err(silence())),
        };
        commands.iter().enumerate().map(outcome).collect()
    }
}

fn order(command: &Command) -> Order {
    match command {
        Command::SetTarget { to, .. } => Order::Target(*to),
        Command::SetPeriod { seconds, .. } => Order::Period(*seconds),
    }
}

#[cfg(test)]
mod tests;
