//! Where the guests are: one libvirt on a host without Kubernetes, the launchers of this node in a cluster.

use std::sync::Arc;
use std::time::{Duration, Instant};

use overcommit_core::plan::{Command, Outcome};
use overcommit_core::ports::GuestPort;
use overcommit_core::sample::GuestSample;
use overcommit_guest::{ConnectionKey, ConnectionState, Facts, Guests, HostView, Target, Who};
use overcommit_host::{Launchers, ProcessFactsReader, Query, Root};

use crate::kubelet_line::KubeletLine;

/// Looking at all processes costs some milliseconds; a new guest is charged a little later, never wrongly.
const SCAN_AGE: Duration = Duration::from_secs(5);

/// The guests of one libvirt.
pub(crate) fn standalone(uri: &str, root: &Root) -> Box<dyn GuestPort + Send> {
    Box::new(Node { guests: Guests::standalone(uri, facts(root)), launchers: None, line: None })
}

/// The guests of this node's launchers, beside a kubelet with this line.
pub(crate) fn launchers(root: &Root, line: Arc<KubeletLine>) -> Box<dyn GuestPort + Send> {
    let scan = Search { launchers: Launchers::new(root.clone()), at: None, refusals: Vec::new() };
    Box::new(Node { guests: Guests::in_cluster(facts(root)), launchers: Some(scan), line: Some(line) })
}

fn facts(root: &Root) -> Box<dyn Facts> {
    Box::new(HostFacts(ProcessFactsReader::new(root.clone())))
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
    fn sample(&mut self) -> Vec<GuestSample> {
        if let Some(found) = self.launchers.as_mut().and_then(Search::renew) {
            self.guests.set_launchers(found);
        }
        self.guests.sample()
    }

    fn apply(&mut self, commands: &[Command]) -> Vec<Outcome> {
        self.guests.apply(commands)
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
                self.refusals = scan.refusals.iter().map(ToString::to_string).collect();
                let target = |l: overcommit_host::Launcher| {
                    (ConnectionKey::new(l.pod_uid), Target::Launcher { socket: l.socket, vmi_uid: l.vmi_uid })
                };
                Some(scan.launchers.into_iter().map(target).collect())
            }
            Err(error) => {
                self.refusals = vec![error.to_string()];
                None
            }
        }
    }
}

struct HostFacts(ProcessFactsReader);

impl Facts for HostFacts {
    fn begin_turn(&mut self) {
        self.0.begin_turn();
    }

    fn look(&mut self, who: &Who<'_>) -> HostView {
        let view = self.0.read(&Query { pod_uid: who.pod_uid, uuid: who.uuid, full: who.full });
        HostView {
            incarnation: view.incarnation,
            vmi_uid: view.vmi_uid,
            guaranteed: view.guaranteed,
            facts: view.facts,
            trouble: view.trouble,
        }
    }
}
