//! Where the guests are: one libvirt on a host without Kubernetes, the launchers of this node in a cluster.

use std::sync::Arc;

use overcommit_core::plan::Command;
use overcommit_core::ports::{Admission, GuestPort, Heard, Reading};
use overcommit_core::sample::{GuestId, GuestSample};
use overcommit_core::stranger::Stranger;
use overcommit_core::troubles::Troubles;
use overcommit_guest::{BY_ITS_PROCESS, ConnectionReport, ConnectionState, Guests, MakePort, Notify};
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
        let (of_guests, of_hypervisor) = of_connections(self.guests.connections());
        troubles.add_own(of_hypervisor);
        troubles.add_of_guests(of_guests);
        if let Some(search) = &self.search {
            troubles.extend(search.troubles());
        }
        // The last of its own: a guest's process may be what the kernel does not answer about.
        troubles.add_own(self.guests.host_trouble());
        troubles
    }
}

/// What is wrong with connections to guests, and with the one that lists them. A hypervisor that does not even do that answers
/// about none, which is one trouble.
fn of_connections(all: Vec<ConnectionReport>) -> (Vec<String>, Vec<String>) {
    let (of_guests, of_hypervisor): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|connection| connection.key.is_some());
    let of_hypervisor: Vec<String> = of_hypervisor.into_iter().filter_map(trouble).collect();
    let of_guests = of_guests.into_iter().filter(|_| of_hypervisor.is_empty()).filter_map(trouble);
    (of_guests.collect(), of_hypervisor)
}

/// What is wrong with a connection.
fn trouble(connection: ConnectionReport) -> Option<String> {
    let ConnectionReport { key, guest, process, by_its_process, state } = connection;
    let who = match (guest, key) {
        (Some(guest), _) => guest.to_string(),
        (None, Some(key)) => format!("pod {key}"),
        (None, None) => {
            return match state {
                ConnectionState::Answering => None,
                ConnectionState::Failing(why) => {
                    Some(format!("the hypervisor: {why}; see that it runs, or name another with --connect"))
                }
                ConnectionState::Unresponsive(since) => Some(format!(
                    "the hypervisor has not answered for {} s; its guests keep what they have. See whether libvirt's daemon is \
                     stopped or stuck",
                    since.as_secs()
                )),
            };
        }
    };
    let known = if by_its_process { format!("; {BY_ITS_PROCESS}") } else { String::new() };
    let process = process.map_or_else(String::new, |pid| format!(" (process {pid})"));
    match state {
        ConnectionState::Answering => None,
        ConnectionState::Failing(why) => Some(format!("{who}: {why}{known}")),
        ConnectionState::Unresponsive(since) => Some(format!(
            "{who}: its QEMU{process} or its libvirt has not answered for {} s{known}; it keeps what it has. See whether one of \
             them is stopped or hangs (state T or D in ps), then libvirt's log",
            since.as_secs()
        )),
    }
}

#[cfg(test)]
mod tests {
    use overcommit_core::sample::GuestName;
    use overcommit_guest::ConnectionKey;
    use std::time::Duration;

    use super::*;

    fn guest(state: ConnectionState) -> ConnectionReport {
        let guest = Some(GuestName::standalone("web"));
        ConnectionReport {
            key: Some(ConnectionKey::new("5c3a9a4f")),
            guest,
            process: Some(42),
            by_its_process: false,
            state,
        }
    }

    fn hypervisor(state: ConnectionState) -> ConnectionReport {
        ConnectionReport { key: None, guest: None, process: None, by_its_process: false, state }
    }

    #[test]
    fn a_guest_that_alone_is_silent_is_named_with_its_process_and_with_what_to_look_at() {
        let silent = ConnectionState::Unresponsive(Duration::from_secs(12));
        let (told, of_hypervisor) =
            of_connections(vec![hypervisor(ConnectionState::Answering), guest(silent.clone())]);
        assert!(of_hypervisor.is_empty() && told.len() == 1, "{told:?} {of_hypervisor:?}");
        let begins = "web: its QEMU (process 42) or its libvirt has not answered for 12 s";
        assert!(told[0].starts_with(begins) && told[0].contains("ps"), "{told:?}");
        // In a cluster each guest has a libvirt of its own, and nobody lists the others.
        let unknown = ConnectionReport { guest: None, process: None, ..guest(silent) };
        let (told, _) = of_connections(vec![unknown]);
        assert!(told[0].starts_with("pod 5c3a9a4f: its QEMU or its libvirt has"), "{told:?}");
    }

    #[test]
    fn a_hypervisor_that_does_not_list_guests_is_one_trouble() {
        let silent = ConnectionState::Unresponsive(Duration::from_secs(12));
        let failing = ConnectionState::Failing("connection refused".to_owned());
        for state in [silent.clone(), failing.clone()] {
            let all = [&state, &silent, &failing].map(Clone::clone);
            let [first, second, third] = all;
            let (of_guests, told) = of_connections(vec![hypervisor(first), guest(second), guest(third)]);
            assert!(of_guests.is_empty() && told.len() == 1, "{told:?} {of_guests:?}");
            assert!(told[0].starts_with("the hypervisor"), "{told:?}");
        }
    }
}
