//! Where the guests are: one libvirt on a host without Kubernetes, the launchers of this node in a cluster.

use std::sync::Arc;

use overcommit_core::plan::Command;
use overcommit_core::ports::{Admission, GuestPort, Heard, Reading};
use overcommit_core::sample::{GuestId, GuestSample};
use overcommit_core::stranger::Stranger;
use overcommit_core::troubles::Troubles;
use overcommit_guest::{ConnectionReport, ConnectionState, Guests, MakePort, Notify};
use overcommit_host::{Launchers, ProcessFactsReader, Root, Visits};

use crate::kubelet_line::KubeletLine;
use crate::search::Search;

/// The guests of one libvirt.
pub(crate) fn standalone(uri: &str, root: &Root, notify: Notify) -> Box<dyn GuestPort + Send> {
    let guests = Guests::standalone(uri, facts(root)).with_notify(notify);
    Box::new(Node { guests, search: None, line: None })
}

/// The guests of this node's launchers, beside a kubelet with this line.
///
/// # Errors
/// When no thread can be started.
pub(crate) fn launchers(
    root: &Root,
    line: Arc<KubeletLine>,
    notify: Notify,
) -> std::io::Result<Box<dyn GuestPort + Send>> {
    let mut launchers = Launchers::new(root.clone());
    let search = Search::start(move |wanted| launchers.scan(|pod| wanted.admits(pod)), Arc::clone(&notify))?;
    let guests = Guests::in_cluster(facts(root)).with_notify(notify);
    Ok(Box::new(Node { guests, search: Some(search), line: Some(line) }))
}

fn facts(root: &Root) -> MakePort {
    let (root, visits) = (root.clone(), Visits::default());
    Arc::new(move || Box::new(ProcessFactsReader::new(root.clone()).among(visits.clone())))
}

pub(crate) struct Node {
    pub(crate) guests: Guests,
    pub(crate) search: Option<Search>,
    pub(crate) line: Option<Arc<KubeletLine>>,
}

impl GuestPort for Node {
    fn ask(&mut self) {
        if let Some(search) = &mut self.search {
            search.ask();
        }
        self.guests.ask();
    }

    fn ask_host(&mut self) {
        self.guests.ask_host();
    }

    fn ask_statistics(&mut self, id: &GuestId) {
        self.guests.ask_statistics(id);
    }

    fn hear(&mut self) -> Heard {
        if let Some((launchers, strangers)) = self.search.as_mut().and_then(Search::hear) {
            self.guests.set_launchers(launchers);
            self.guests.set_strangers(strangers);
        }
        self.guests.hear()
    }

    fn is_waiting(&self) -> bool {
        self.search.as_ref().is_some_and(Search::is_waiting) || self.guests.is_waiting()
    }

    fn admit(&mut self, admission: Arc<Admission>) {
        let Some(search) = &mut self.search else { return };
        search.admit(Arc::clone(&admission));
        self.guests.admit(admission);
    }

    fn sample(&mut self, reading: Reading) -> Vec<GuestSample> {
        self.guests.sample(reading)
    }

    fn strangers(&self) -> Vec<Stranger> {
        self.guests.strangers()
    }

    fn send(&mut self, commands: &[Command]) {
        self.guests.send(commands);
    }

    fn is_carrying(&self) -> bool {
        self.guests.is_carrying()
    }

    /// Before the first search no launcher is known: that counts as one.
    fn unseen(&self) -> usize {
        let is_blind = self.search.as_ref().is_some_and(Search::is_blind);
        self.guests.unseen().saturating_add(usize::from(is_blind))
    }

    fn troubles(&self) -> Troubles {
        let mut troubles = Troubles::default();
        troubles.add_own(self.line.as_ref().and_then(|line| line.trouble()));
        let (of_guests, of_hypervisor): (Vec<_>, Vec<_>) =
            self.guests.connections().into_iter().partition(|connection| connection.key.is_some());
        troubles.add_own(of_hypervisor.into_iter().filter_map(trouble));
        troubles.add_of_guests(of_guests.into_iter().filter_map(trouble));
        if let Some(search) = &self.search {
            troubles.extend(search.troubles());
        }
        // The last of its own: a guest's process may be what the kernel does not answer about.
        troubles.add_own(self.guests.host_trouble());
        troubles
    }
}

/// What is wrong with a connection.
fn trouble(connection: ConnectionReport) -> Option<String> {
    let (who, remedy) = match connection.key {
        Some(key) => (format!("libvirt of {key}"), ""),
        None => ("the hypervisor".to_owned(), "; see that it runs, or name another with --connect"),
    };
    match connection.state {
        ConnectionState::Failing(why) => Some(format!("{who}: {why}{remedy}")),
        ConnectionState::Unresponsive(since) => {
            Some(format!("{who} has not answered for {} s; its guests keep what they have", since.as_secs()))
        }
        ConnectionState::Answering => None,
    }
}
