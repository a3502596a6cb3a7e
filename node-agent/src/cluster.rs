//! Where the guests are: one libvirt on a host without Kubernetes, the launchers of this node in a cluster.

use std::sync::Arc;
use std::time::{Duration, Instant};

use overcommit_core::plan::Command;
use overcommit_core::ports::{GuestPort, Heard, Reading};
use overcommit_core::sample::{GuestId, GuestSample};
use overcommit_guest::{ConnectionKey, ConnectionState, Guests, Notify, Target};
use overcommit_host::{Launcher, Launchers, ProcessFactsReader, Refusal, Root};

use crate::kubelet_line::KubeletLine;

/// Looking at all processes costs some milliseconds; a new guest is charged a little later, never wrongly.
const SCAN_AGE: Duration = Duration::from_secs(5);

/// The guests of one libvirt.
pub(crate) fn standalone(uri: &str, root: &Root, notify: Notify) -> Box<dyn GuestPort + Send> {
    let guests = Guests::standalone(uri, facts(root)).with_notify(notify);
    Box::new(Node { guests, launchers: None, line: None })
}

/// The guests of this node's launchers, beside a kubelet with this line.
pub(crate) fn launchers(root: &Root, line: Arc<KubeletLine>, notify: Notify) -> Box<dyn GuestPort + Send> {
    let scan = Search { launchers: Launchers::new(root.clone()), at: None, refusals: Vec::new() };
    let guests = Guests::in_cluster(facts(root)).with_notify(notify);
    Box::new(Node { guests, launchers: Some(scan), line: Some(line) })
}

fn facts(root: &Root) -> Box<ProcessFactsReader> {
    Box::new(ProcessFactsReader::new(root.clone()))
}

struct Node {
    guests: Guests,
    launchers: Option<Search>,
    line: Option<Arc<KubeletLine>>,
}

struct Search {
    launchers: Launchers,
    at: Option<Instant>,
    refusals: Vec<String>,
}

impl GuestPort for Node {
    fn ask(&mut self) {
        if let Some(found) = self.launchers.as_mut().and_then(Search::renew) {
            self.guests.set_launchers(found);
        }
        self.guests.ask();
    }

    fn ask_statistics(&mut self, id: &GuestId) {
        self.guests.ask_statistics(id);
    }

    fn hear(&mut self) -> Heard {
        self.guests.hear()
    }

    fn is_waiting(&self) -> bool {
        self.guests.is_waiting()
    }

    fn sample(&mut self, reading: Reading) -> Vec<GuestSample> {
        self.guests.sample(reading)
    }

    fn send(&mut self, commands: &[Command]) {
        self.guests.send(commands);
    }

    fn is_carrying(&self) -> bool {
        self.guests.is_carrying()
    }

    /// Before the first search no launcher is known: that counts as one.
    fn unseen(&self) -> usize {
        let unsearched = self.launchers.as_ref().is_some_and(|search| search.at.is_none());
        self.guests.unseen().saturating_add(usize::from(unsearched))
    }

    fn troubles(&self) -> Vec<String> {
        let refusals = self.launchers.iter().flat_map(|s| s.refusals.iter().cloned());
        let silent = self.guests.connections().into_iter().filter_map(|connection| {
            let who =
                connection.key.map_or_else(|| "the hypervisor".to_owned(), |key| format!("libvirt of {key}"));
            match connection.state {
                ConnectionState::Failing(why) => Some(format!("{who}: {why}")),
                ConnectionState::Unresponsive(_) => {
                    Some(format!("{who} does not answer; its guests keep what they have"))
                }
                ConnectionState::Answering => None,
            }
        });
        let line = self.line.as_ref().and_then(|line| line.trouble());
        line.into_iter().chain(refusals).chain(silent).collect()
    }
}

impl Search {
    /// The launchers there are now, if it is time to look again.
    fn renew(&mut self) -> Option<Vec<(ConnectionKey, Target)>> {
        if self.at.is_some_and(|at| at.elapsed() < SCAN_AGE) {
            return None;
        }
        self.at = Some(Instant::now());
        match self.launchers.scan() {
            Ok(scan) => {
                let known = |r: &Refusal| scan.launchers.iter().any(|l| l.pod_uid == r.pod_uid);
                let (told, refused): (Vec<_>, Vec<_>) = scan.refusals.into_iter().partition(known);
                self.refusals = told.iter().map(ToString::to_string).collect();
                let launcher = |l: Launcher| (ConnectionKey::new(l.pod_uid), Target::Launcher(l.socket));
                // One that must not be talked to has a guest all the same.
                let out_of_reach = |r: Refusal| {
                    let why = Target::Refused(Arc::from(r.to_string()));
                    (ConnectionKey::new(r.pod_uid), why)
                };
                let launchers = scan.launchers.into_iter().map(launcher);
                Some(launchers.chain(refused.into_iter().map(out_of_reach)).collect())
            }
            Err(error) => {
                self.refusals = vec![error.to_string()];
                None
            }
        }
    }
}
