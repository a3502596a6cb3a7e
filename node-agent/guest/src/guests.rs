//! The guests' port: asks all connections at once, takes in what comes, waits for nobody.

mod view;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use overcommit_core::plan::{Command, Failed, Outcome};
use overcommit_core::ports::{Admission, GuestPort, Heard, Reading};
use overcommit_core::sample::{GuestId, GuestName, GuestSample};
use overcommit_core::stranger::Stranger;

use crate::connection::{Connection, ConnectionReport, Directory};
use crate::domain::Observation;
use crate::facts::{Facts, MakePort, Said};
use crate::link::{Answer, COMMAND_DEADLINE, Link, Notify, Post, Reply, Request};
use crate::session::{Listed, Order, Scope};
use crate::target::{ConnectionKey, Target};

/// A guest whose libvirt has not answered for this long is out of reach until it does.
const PATIENCE: Duration = Duration::from_secs(2);
/// What a command may take beyond the time in which it is sent: libvirt's own call.
const CALL: Duration = Duration::from_millis(500);

/// All guests of a node.
pub struct Guests {
    /// Lists the domains of a host without Kubernetes.
    directory: Option<Directory>,
    connections: BTreeMap<ConnectionKey, Connection>,
    /// Given up while a call was under way; used again if the same target comes back.
    retired: Vec<(ConnectionKey, Link)>,
    /// Who may be talked to; nobody is asked for it on a host without Kubernetes.
    admission: Arc<Admission>,
    /// What guests of pods are called: by the list, whatever their hypervisors say.
    names: BTreeMap<Arc<str>, GuestName>,
    /// Pods that look like launchers and may not be talked to.
    strangers: Vec<Arc<str>>,
    /// Where each guest of the last sample is.
    places: HashMap<GuestId, (ConnectionKey, Arc<str>)>,
    facts: Facts,
    /// What the host's kernel had said when the last fresh sample was made.
    said: Said,
    /// A guest came after the kernel was asked.
    newcomers: bool,
    patience: Duration,
    answers: Receiver<Answer>,
    post: Post,
    /// Commands whose outcomes are not known yet, by the number of their request.
    carrying: BTreeMap<u64, Carrying>,
    /// Outcomes that need no answer.
    settled: Vec<Outcome>,
    asked: Option<Instant>,
    /// The kernel was asked since.
    asked_host: bool,
    next_link: u64,
    next_number: u64,
}

struct Carrying {
    link: u64,
    sent: Instant,
    commands: Vec<Command>,
}

impl Guests {
    /// The guests of one libvirt, say `qemu:///system`.
    pub fn standalone(uri: &str, facts: MakePort) -> Self {
        Self { directory: Some(Directory::new(uri)), ..Self::in_cluster(facts) }
    }

    /// The guests of launcher pods; none until [`Guests::set_launchers`].
    pub fn in_cluster(facts: MakePort) -> Self {
        let (sender, answers) = channel();
        Self {
            directory: None,
            connections: BTreeMap::new(),
            retired: Vec::new(),
            admission: Arc::default(),
            names: BTreeMap::new(),
            strangers: Vec::new(),
            places: HashMap::new(),
            facts: Facts::new(facts, PATIENCE),
            said: Said::default(),
            newcomers: false,
            patience: PATIENCE,
            answers,
            post: Post { answers: sender, notify: Arc::new(|| {}) },
            carrying: BTreeMap::new(),
            settled: Vec::new(),
            asked: None,
            asked_host: false,
            next_link: 0,
            next_number: 0,
        }
    }

    /// The same, calling `notify`, from other threads, each time that something can be heard.
    #[must_use]
    pub fn with_notify(mut self, notify: Notify) -> Self {
        self.post.notify = notify;
        self
    }

    /// The same with other patience.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, facts: self.facts.with_patience(patience), ..self }
    }

    /// Waits for the next answer, for callers that have nothing else to wait for.
    pub fn wait(&mut self, at_most: Duration) -> Heard {
        let first = self.answers.recv_timeout(at_most).ok();
        self.hear_all(first)
    }

    /// Says which launchers there are now. Guests of all others are gone; a launcher with another target is
    /// connected to anew, and what was last seen of its guests stands until it answers. New ones are asked at once.
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
            let is_new = !self.connections.contains_key(&key);
            self.connect(key.clone(), target, Scope::Launcher);
            if let Some(connection) = self.connections.get_mut(&key).filter(|_| is_new) {
                connection.seen = seen;
                connection.link.ask(Request::Observe(connection.scope.clone()));
            }
        }
    }

    /// Says in which pods guests seem to run that may not be talked to.
    pub fn set_strangers(&mut self, pods: Vec<Arc<str>>) {
        self.strangers = pods;
    }

    /// What the host's kernel does not say, for people.
    pub fn host_trouble(&self) -> Option<String> {
        self.facts.trouble()
    }

    #[cfg(test)]
    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    /// How each connection is.
    pub fn connections(&self) -> Vec<ConnectionReport> {
        let directory = self.directory.iter().map(|d| ConnectionReport {
            key: None,
            guest: None,
            process: None,
            by_its_process: false,
            state: d.state(self.patience),
        });
        let each = self.connections.iter().map(|(key, c)| self.report(key, c));
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
        Link::start(self.next_link, target, self.post.clone())
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

    /// Takes in what has come from everywhere.
    fn hear_all(&mut self, first: Option<Answer>) -> Heard {
        let mut heard = self.take_all(first);
        heard.host = self.facts.hear();
        // Who came after the kernel was asked is not to wait for a control period.
        if self.newcomers && self.asked_host && !self.waits_for_guests() && !self.facts.is_asked() {
            self.ask_host();
        }
        heard
    }

    /// Takes `first` and everything else in that guests have sent.
    fn take_all(&mut self, first: Option<Answer>) -> Heard {
        let mut heard = Heard { outcomes: std::mem::take(&mut self.settled), ..Heard::default() };
        let mut next = first.or_else(|| self.answers.try_recv().ok());
        while let Some(answer) = next {
            let at = answer.at;
            heard.glances.extend(self.glance_of(&answer));
            if self.take(answer, &mut heard.outcomes) {
                heard.news.get_or_insert(at);
            }
            next = self.answers.try_recv().ok();
        }
        self.give_up_late(&mut heard.outcomes);
        heard
    }

    /// Whose statistics an answer brings, and their stamp.
    fn glance_of(&self, answer: &Answer) -> Option<(GuestId, Option<u64>)> {
        let Reply::Glanced(uuid, seen) = &answer.reply else { return None };
        let (key, _) = self.connections.iter().find(|(_, c)| c.link.id == answer.link)?;
        let at = |(k, u): &(ConnectionKey, Arc<str>)| k == key && u == uuid;
        let id = self.places.iter().find(|(_, place)| at(place)).map(|(id, _)| id.clone())?;
        Some((id, seen.as_ref().ok().copied().flatten().and_then(|balloon| balloon.last_update)))
    }

    /// Takes one answer in; true if it tells something new of a guest.
    fn take(&mut self, answer: Answer, outcomes: &mut Vec<Outcome>) -> bool {
        if let Reply::CarriedOut { number, results } = answer.reply {
            // An answer under a number of another connection, or one that was given up, is nobody's.
            let theirs = self.carrying.get(&number).is_some_and(|c| c.link == answer.link);
            if let Some(carried) = theirs.then(|| self.carrying.remove(&number)).flatten() {
                let told = carried.commands.into_iter().zip(results);
                outcomes.extend(told.map(|(command, result)| Outcome { command, result }));
            }
            return false;
        }
        if let Some(directory) = self.directory.as_mut().filter(|d| d.is(answer.link)) {
            return match directory.take(answer.reply) {
                Some(listed) => {
                    self.set_domains(listed);
                    true
                }
                None => false,
            };
        }
        if let Some(c) = self.connections.values_mut().find(|c| c.link.id == answer.link) {
            self.newcomers |= c.brings_newcomers(&answer.reply);
            return c.take(answer.reply);
        }
        self.retired.retain(|(_, link)| link.id != answer.link);
        false
    }

    /// Commands that were not answered in time.
    fn give_up_late(&mut self, outcomes: &mut Vec<Outcome>) {
        let late = |c: &Carrying| c.sent.elapsed() >= COMMAND_DEADLINE.saturating_add(CALL);
        let numbers: Vec<u64> = self.carrying.iter().filter(|(_, c)| late(c)).map(|(n, _)| *n).collect();
        for carried in numbers.iter().filter_map(|number| self.carrying.remove(number)).collect::<Vec<_>>() {
            let why = || format!("no answer within {COMMAND_DEADLINE:?}; it may still take effect");
            let outcome = |command| Outcome { command, result: Err(Failed::unanswered(why())) };
            outcomes.extend(carried.commands.into_iter().map(outcome));
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
            connection.link.ask(Request::Observe(connection.scope.clone()));
        }
    }

    /// An answer of a guest to the last `ask` may still come in time. Requests older than that are not waited for again,
    /// but for the first ones of new connections, which are made when those come. The list of domains, which libvirt holds
    /// back for seconds while one starts, is waited for only while none is known.
    fn waits_for_guests(&self) -> bool {
        let Some(since) = self.asked.filter(|since| since.elapsed() < self.patience) else { return false };
        let is_new = |asked: Instant| asked.elapsed() < self.patience;
        let of_connection = |c: &Connection| {
            c.link.asked.is_some_and(|asked| asked >= since || (!c.answered && is_new(asked)))
        };
        let directory = self.directory.as_ref().filter(|_| self.connections.is_empty());
        let listing = directory.and_then(|d| d.link.as_ref()?.asked);
        self.connections.values().any(of_connection) || listing.is_some_and(|asked| asked >= since)
    }

    /// Sends orders to one connection; what cannot be sent is settled at once.
    fn order(&mut self, key: &ConnectionKey, commands: Vec<(Arc<str>, Command)>) {
        let silent = self.connections.get(key).filter(|c| !c.is_silent(self.patience));
        let Some(connection) = silent else {
            let result = Err("not sent: its libvirt does not answer".into());
            let settled = |(_, command)| Outcome { command, result: result.clone() };
            self.settled.extend(commands.into_iter().map(settled));
            return;
        };
        self.next_number = self.next_number.wrapping_add(1);
        let orders = commands.iter().map(|(uuid, command)| (Arc::clone(uuid), order(command))).collect();
        let commands: Vec<Command> = commands.into_iter().map(|(_, command)| command).collect();
        connection.link.order(self.next_number, orders);
        let carrying = Carrying { link: connection.link.id, sent: Instant::now(), commands };
        self.carrying.insert(self.next_number, carrying);
    }
}

impl GuestPort for Guests {
    fn ask(&mut self) {
        self.asked = Some(Instant::now());
        self.asked_host = false;
        self.ask_all();
    }

    fn ask_host(&mut self) {
        self.asked_host = true;
        let notify = Arc::clone(&self.post.notify);
        // An answer that is under way already will not tell of them.
        self.newcomers &= !self.facts.ask(self.question(), &notify);
    }

    fn ask_statistics(&mut self, id: &GuestId) {
        let Some((key, uuid)) = self.places.get(id) else { return };
        if let Some(connection) = self.connections.get_mut(key) {
            connection.link.glance(Arc::clone(uuid));
        }
    }

    fn hear(&mut self) -> Heard {
        self.hear_all(None)
    }

    fn is_waiting(&self) -> bool {
        self.waits_for_guests() || self.facts.is_waiting()
    }

    fn admit(&mut self, admission: Arc<Admission>) {
        if admission == self.admission {
            return;
        }
        let gone: Vec<ConnectionKey> =
            self.connections.keys().filter(|key| !admission.admits(key.as_str())).cloned().collect();
        for key in gone {
            self.retire(&key);
            self.strangers.push(Arc::clone(key.text()));
        }
        self.name_guests(&admission);
        self.admission = admission;
    }

    fn sample(&mut self, reading: Reading) -> Vec<GuestSample> {
        if reading == Reading::Fresh {
            self.facts.hear();
            self.said.clone_from(self.facts.newest());
        }
        self.samples()
    }

    /// Those that are guests by now are none.
    fn strangers(&self) -> Vec<Stranger> {
        let known: HashSet<&str> = self.places.keys().filter_map(GuestId::pod).collect();
        self.said.strangers.iter().filter(|s| !known.contains(&*s.pod)).cloned().collect()
    }

    fn send(&mut self, commands: &[Command]) {
        let mut orders: BTreeMap<ConnectionKey, Vec<(Arc<str>, Command)>> = BTreeMap::new();
        for command in commands {
            if let Some((key, uuid)) = self.places.get(command.id()) {
                orders.entry(key.clone()).or_default().push((Arc::clone(uuid), command.clone()));
            } else {
                let result = Err("no such guest in the last sample".into());
                self.settled.push(Outcome { command: command.clone(), result });
            }
        }
        for (key, commands) in orders {
            self.order(&key, commands);
        }
        if !self.settled.is_empty() {
            (self.post.notify)();
        }
    }

    fn is_carrying(&self) -> bool {
        !self.carrying.is_empty() || !self.settled.is_empty()
    }

    fn unseen(&self) -> usize {
        let unlisted = self.directory.as_ref().is_some_and(|d| !d.answered);
        let silent = self.connections.values().filter(|c| !c.answered).count();
        silent.saturating_add(usize::from(unlisted))
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
