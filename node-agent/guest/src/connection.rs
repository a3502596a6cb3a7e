//! One connection as the port sees it: what was last seen through it, and how it is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use overcommit_core::ports::HostView;
use overcommit_core::sample::{Balloon, GuestId, GuestName, GuestSample, RunState, Untouchable};

use crate::domain::Observation;
use crate::link::{Link, Reply};
use crate::session::{Listed, Scope};
use crate::target::ConnectionKey;

/// How a connection is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// It answers.
    Answering,
    /// It answers with an error.
    Failing(String),
    /// It has not answered for this long, which is longer than it may take.
    Unresponsive(Duration),
}

/// One connection and how it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionReport {
    /// Which connection; absent for the one that lists the domains of a host without Kubernetes.
    pub key: Option<ConnectionKey>,
    /// Its guest, as far as it is known.
    pub guest: Option<GuestName>,
    /// The process of that guest, as far as the kernel has said.
    pub process: Option<u32>,
    /// Nothing of that guest is known but this process.
    pub by_its_process: bool,
    /// How it is.
    pub state: ConnectionState,
}

/// A connection to one guest's libvirt and what was last seen through it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) link: Link,
    pub(crate) scope: Scope,
    /// What the last answer said.
    pub(crate) seen: Vec<Observation>,
    /// Why there was none.
    trouble: Option<String>,
    /// It has answered since it was connected.
    pub(crate) answered: bool,
}

/// The connection that lists domains.
pub(crate) struct Directory {
    pub(crate) uri: Arc<str>,
    pub(crate) link: Option<Link>,
    pub(crate) trouble: Option<String>,
    /// It has listed them since the agent started: then what it does not list is no guest of this libvirt.
    pub(crate) answered: bool,
}

impl Directory {
    pub(crate) fn new(uri: &str) -> Self {
        Self { uri: Arc::from(uri), link: None, trouble: None, answered: false }
    }

    /// A guest that runs while nothing was ever listed.
    pub(crate) fn sample(seen: &Observation, host: &HostView) -> GuestSample {
        unreached(GuestId::new(Arc::clone(&seen.uuid)), name(false, &seen.domain), seen, host)
    }

    pub(crate) fn state(&self, patience: Duration) -> ConnectionState {
        state(self.silence(patience), self.trouble.as_ref())
    }

    fn silence(&self, patience: Duration) -> Option<Duration> {
        silence(self.link.as_ref().and_then(|l| l.asked), patience)
    }

    pub(crate) fn is(&self, link: u64) -> bool {
        self.link.as_ref().is_some_and(|l| l.id == link)
    }

    /// Takes an answer in; the domains if it lists them.
    pub(crate) fn take(&mut self, reply: Reply) -> Option<Vec<Listed>> {
        if let Some(link) = &mut self.link {
            link.asked = None;
        }
        match reply {
            Reply::Listed(Ok(listed)) => {
                self.trouble = None;
                self.answered = true;
                Some(listed)
            }
            Reply::Listed(Err(why)) => {
                self.trouble = Some(why);
                None
            }
            _ => None,
        }
    }
}

impl Connection {
    pub(crate) fn new(link: Link, scope: Scope) -> Self {
        Self { link, scope, seen: Vec::new(), trouble: None, answered: false }
    }

    pub(crate) fn state(&self, patience: Duration) -> ConnectionState {
        state(silence(self.link.asked, patience), self.trouble.as_ref())
    }

    /// True if an answer tells of guests that were not there before.
    pub(crate) fn brings_newcomers(&self, reply: &Reply) -> bool {
        let Reply::Observed(Ok(now)) = reply else { return false };
        now.iter().any(|guest| self.seen.iter().all(|known| known.uuid != guest.uuid))
    }

    /// Takes an answer in; true if it tells something new of a guest.
    pub(crate) fn take(&mut self, reply: Reply) -> bool {
        self.link.answered(&reply);
        match reply {
            Reply::Observed(Ok(seen)) => {
                self.seen = seen;
                self.trouble = None;
                self.answered = true;
                true
            }
            Reply::Observed(Err(why)) => {
                self.trouble = Some(why);
                true
            }
            Reply::Glanced(uuid, Ok(Some(fresh))) => self.glanced(&uuid, fresh),
            // A guest that is gone or a daemon that fails is told by the next whole look.
            _ => false,
        }
    }

    fn glanced(&mut self, uuid: &str, fresh: Balloon) -> bool {
        let guest = self.seen.iter_mut().find(|seen| *seen.uuid == *uuid);
        let Some(known) = guest.and_then(|guest| guest.balloon.as_mut()) else { return false };
        let news = known.last_update != fresh.last_update || known.actual != fresh.actual;
        *known = Balloon { period: known.period, ..fresh };
        news
    }

    /// True if what was last seen through it may not be all there is: it has not answered yet, or not for `patience`.
    pub(crate) fn is_silent(&self, patience: Duration) -> bool {
        !self.answered || silence(self.link.asked, patience).is_some() || self.trouble.is_some()
    }

    /// A guest as just seen, or as last seen and out of reach; why it is that is told of the connection.
    pub(crate) fn sample(
        &self,
        id: GuestId,
        name: GuestName,
        seen: &Observation,
        host: &HostView,
        patience: Duration,
    ) -> GuestSample {
        if self.is_silent(patience) {
            let told = self.state(patience) != ConnectionState::Answering;
            let unreached = unreached(id, name, seen, host);
            GuestSample { trouble: unreached.trouble.filter(|_| !told), ..unreached }
        } else {
            let trouble = seen.trouble.clone().or_else(|| host.trouble.clone());
            GuestSample {
                run_state: seen.run_state,
                balloon: seen.balloon,
                trouble,
                ..unreached(id, name, seen, host)
            }
        }
    }
}

/// What is said of a guest that libvirt has not told of.
pub const BY_ITS_PROCESS: &str = "known by its process alone and charged at its full size";

/// A guest that cannot be asked: what was last seen of it, or what its process shows.
fn unreached(id: GuestId, name: GuestName, seen: &Observation, host: &HostView) -> GuestSample {
    let mut config = seen.config.clone();
    if host.guaranteed {
        config.untouchable.push(Untouchable::Guaranteed);
    }
    // No libvirt reports this state: it marks what was never seen through one.
    let trouble = (seen.run_state == RunState::Unreachable).then(|| BY_ITS_PROCESS.to_owned());
    GuestSample {
        id,
        name,
        incarnation: host.incarnation,
        config,
        run_state: RunState::Unreachable,
        balloon: None,
        facts: host.facts,
        facts_age: None,
        trouble,
    }
}

/// KubeVirt names a domain `<namespace>_<name>`; neither may hold an underscore
/// (api.VMINamespaceKeyFunc, pkg/virt-launcher/virtwrap/api, KubeVirt 1.9).
pub(crate) fn name(in_cluster: bool, domain: &str) -> GuestName {
    match domain.split_once('_') {
        Some((namespace, name)) if in_cluster => GuestName::namespaced(namespace, name),
        _ => GuestName::standalone(domain),
    }
}

/// How long an answer has been waited for, once that is longer than it may take: every question is under way for a while.
fn silence(asked: Option<Instant>, patience: Duration) -> Option<Duration> {
    asked.map(|since| since.elapsed()).filter(|waited| *waited >= patience)
}

fn state(silent: Option<Duration>, trouble: Option<&String>) -> ConnectionState {
    match (silent, trouble) {
        (Some(since), _) => ConnectionState::Unresponsive(since),
        (None, Some(why)) => ConnectionState::Failing(why.clone()),
        (None, None) => ConnectionState::Answering,
    }
}
