//! Who the guests are: what the host's kernel is asked about, and what is told of them in the end.

use std::collections::BTreeMap;
use std::sync::Arc;

use overcommit_core::ports::Admission;
use overcommit_core::sample::{GuestName, GuestSample, RunState};

use super::Guests;
use crate::connection::{Connection, ConnectionReport, Directory, name};
use crate::domain::Observation;
use crate::facts::{Question, Silent, identity, who};
use crate::target::ConnectionKey;

impl Guests {
    /// What the host's kernel is to be asked now.
    pub(super) fn question(&self) -> Question {
        let mut question =
            Question { guests: Vec::new(), silent: Vec::new(), strangers: self.strangers.clone() };
        for (key, connection) in &self.connections {
            let pod_uid = self.pod_uid(key);
            let about = |s: &Observation| (identity(pod_uid.map(|pod| &**pod), &s.uuid), who(pod_uid, s));
            question.guests.extend(self.counted(key, connection).map(about));
            // A pod's guest that was seen once is the one that counts, also while its libvirt is silent.
            let counts = pod_uid.is_none() || connection.seen.is_empty();
            if connection.is_silent(self.patience) && counts {
                question.silent.push(Silent {
                    key: Some(key.clone()),
                    pod_uid: pod_uid.cloned(),
                    only: self.directory.as_ref().map(|_| Arc::clone(key.text())),
                    seen: connection.seen.iter().map(|s| Arc::clone(&s.uuid)).collect(),
                });
            }
        }
        if self.directory.as_ref().is_some_and(|directory| !directory.answered) {
            question.silent.push(Silent { key: None, pod_uid: None, only: None, seen: Vec::new() });
        }
        question
    }

    /// The guests of a connection that count. A launcher has one, and what else its libvirt tells of shares its pod and all
    /// that is counted there: the one that bears the name under which the pod is listed, else the first.
    fn counted<'a>(
        &'a self,
        key: &ConnectionKey,
        connection: &'a Connection,
    ) -> impl Iterator<Item = &'a Observation> + use<'a> {
        let in_pod = self.pod_uid(key).is_some();
        let listed = self.names.get(key.text());
        let rank = |s: &&Observation| {
            (listed.is_some_and(|listed| name(true, &s.domain) != *listed), Arc::clone(&s.uuid))
        };
        let one = connection.seen.iter().min_by_key(rank).filter(|_| in_pod);
        one.into_iter().chain(connection.seen.iter().filter(move |_| !in_pod))
    }

    /// Takes the names of pods from the list. One that is listed no more keeps its name for as long as it is owed something;
    /// what its hypervisor says is any tenant's word.
    pub(super) fn name_guests(&mut self, admission: &Admission) {
        let owed = |pod: &Arc<str>| {
            let before = self.names.get(pod).cloned();
            (Arc::clone(pod), before.unwrap_or_else(|| GuestName::unnamed(pod)))
        };
        let mut names: BTreeMap<Arc<str>, GuestName> = admission.owed.iter().map(owed).collect();
        names.extend(admission.listed.iter().map(|(pod, name)| (Arc::clone(pod), name.clone())));
        self.names = names;
    }

    /// The pod behind a connection; absent on a host without Kubernetes.
    fn pod_uid<'a>(&self, key: &'a ConnectionKey) -> Option<&'a Arc<str>> {
        self.directory.is_none().then(|| key.text())
    }

    /// The guests of a connection, as last seen through it, or as the kernel shows them while it is silent.
    fn seen<'a>(
        &'a self,
        key: &'a ConnectionKey,
        connection: &'a Connection,
    ) -> impl Iterator<Item = &'a Observation> {
        let in_cluster = self.directory.is_none();
        let is_new = |uuid: &Arc<str>| connection.seen.iter().all(|s| s.uuid != *uuid);
        let is_silent = connection.is_silent(self.patience) && (!in_cluster || connection.seen.is_empty());
        let unseen = self.said.evident.iter().filter(move |g| is_silent && g.key.as_ref() == Some(key));
        let unseen = unseen.filter(move |g| is_new(&g.seen.uuid)).map(|g| &g.seen);
        self.counted(key, connection).chain(unseen)
    }

    /// What a guest is called.
    fn named(&self, key: &ConnectionKey, seen: &Observation) -> GuestName {
        let in_cluster = self.directory.is_none();
        let listed = self.names.get(key.text()).filter(|_| in_cluster).cloned();
        listed.unwrap_or_else(|| name(in_cluster, &seen.domain))
    }

    /// How a connection is, and who is behind it.
    pub(super) fn report(&self, key: &ConnectionKey, connection: &Connection) -> ConnectionReport {
        let pod = self.pod_uid(key);
        let report = ConnectionReport {
            key: Some(key.clone()),
            guest: pod.and_then(|pod| self.names.get(pod)).cloned(),
            process: None,
            by_its_process: false,
            state: connection.state(self.patience),
        };
        let Some(seen) = self.seen(key, connection).next() else { return report };
        let (host, _) = self.said.of(&identity(pod.map(|pod| &**pod), &seen.uuid));
        ConnectionReport {
            guest: Some(self.named(key, seen)),
            process: host.incarnation.map(|process| process.pid),
            by_its_process: seen.run_state == RunState::Unreachable,
            ..report
        }
    }

    /// All guests as last seen through their connections and by the kernel.
    pub(super) fn samples(&mut self) -> Vec<GuestSample> {
        let mut places = std::mem::take(&mut self.places);
        places.clear();
        let in_cluster = self.directory.is_none();
        let mut samples = Vec::new();
        for (key, connection) in &self.connections {
            let pod_uid = in_cluster.then(|| key.as_str());
            for seen in self.seen(key, connection) {
                let id = identity(pod_uid, &seen.uuid);
                places.insert(id.clone(), (key.clone(), Arc::clone(&seen.uuid)));
                let (host, age) = self.said.of(&id);
                let sample = connection.sample(id, self.named(key, seen), seen, &host, self.patience);
                samples.push(GuestSample { facts_age: age, ..sample });
            }
        }
        self.places = places;
        if self.directory.as_ref().is_some_and(|directory| !directory.answered) {
            for guest in self.said.evident.iter().filter(|g| g.key.is_none()) {
                let (host, age) = self.said.of(&guest.id);
                samples.push(GuestSample { facts_age: age, ..Directory::sample(&guest.seen, &host) });
            }
        }
        samples
    }
}
