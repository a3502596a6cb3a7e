//! Who the guests are: what the host's kernel is asked about, and what is told of them in the end.

use std::sync::Arc;

use overcommit_core::sample::GuestSample;

use super::Guests;
use crate::domain::Observation;
use crate::facts::{Question, Silent, identity, who};
use crate::target::ConnectionKey;

impl Guests {
    /// What the host's kernel is to be asked now.
    pub(super) fn question(&self) -> Question {
        let mut question = Question { guests: Vec::new(), silent: Vec::new() };
        for (key, connection) in &self.connections {
            let pod_uid = self.pod_uid(key);
            let about = |s: &Observation| (identity(pod_uid.map(|pod| &**pod), &s.uuid), who(pod_uid, s));
            question.guests.extend(connection.seen.iter().map(about));
            if connection.is_silent(self.patience) {
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

    /// The pod behind a connection; absent on a host without Kubernetes.
    fn pod_uid<'a>(&self, key: &'a ConnectionKey) -> Option<&'a Arc<str>> {
        self.directory.is_none().then(|| key.text())
    }

    /// All guests as last seen through their connections and by the kernel.
    pub(super) fn samples(&mut self) -> Vec<GuestSample> {
        self.places.clear();
        let in_cluster = self.directory.is_none();
        let mut samples = Vec::new();
        for (key, connection) in &self.connections {
            let pod_uid = in_cluster.then(|| key.as_str());
            let is_new = |uuid: &Arc<str>| connection.seen.iter().all(|s| s.uuid != *uuid);
            let unseen = self.said.evident.iter().filter(|g| g.key.as_ref() == Some(key));
            let unseen = unseen.filter(|g| connection.is_silent(self.patience) && is_new(&g.seen.uuid));
            for seen in connection.seen.iter().chain(unseen.map(|g| &g.seen)) {
                let id = identity(pod_uid, &seen.uuid);
                self.places.insert(id.clone(), (key.clone(), Arc::clone(&seen.uuid)));
                let (host, age) = self.said.of(&id);
                let sample = connection.sample(id, in_cluster, seen, &host, self.patience);
                samples.push(GuestSample { facts_age: age, ..sample });
            }
        }
        if let Some(directory) = self.directory.as_ref().filter(|directory| !directory.answered) {
            for guest in self.said.evident.iter().filter(|g| g.key.is_none()) {
                let (host, age) = self.said.of(&guest.id);
                samples.push(GuestSample {
                    facts_age: age,
                    ..directory.sample(&guest.seen, &host, self.patience)
                });
            }
        }
        samples
    }
}
