//! What the agent serves: its health by the loop's own beat, its metrics.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use overcommit_serve::{Beat, Pages};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::contact::Contact;
use crate::report::Report;

/// The loop may be late by this before it counts as hung. A turn waits for nobody and takes milliseconds, seconds on a
/// node that is short of everything; one that is late and turns still relieves more than one that is started anew. The
/// probe of the chart asks six times before it acts.
const SLACK: Duration = Duration::from_secs(30);

/// The beat of a loop that starts now.
pub(crate) fn beat() -> Arc<Beat> {
    Arc::new(Beat::new(SLACK))
}

/// Serves until the runtime ends.
///
/// # Errors
/// When the address cannot be listened on.
pub(crate) async fn serve(
    address: SocketAddr,
    beat: Arc<Beat>,
    registry: Registry,
    latest: watch::Receiver<Option<Arc<Report>>>,
    contact: Option<Arc<Contact>>,
) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let pages = Pages::new(beat, registry, move || readiness(latest.borrow().as_deref(), contact.as_deref()));
    tokio::spawn(overcommit_serve::serve(listener, Arc::new(pages)));
    Ok(())
}

pub(crate) fn readiness(latest: Option<&Report>, contact: Option<&Contact>) -> Result<String, String> {
    // What was done without orders is no sign that any came.
    match latest.filter(|report| report.orders_missing_since.is_none()) {
        // A node that no policy selects has nothing to do, and an agent that is ready for it; but the API server must
        // have said so.
        None => contact.map_or_else(
            || Err("the first turn is under way".to_owned()),
            |contact| contact.without_turn().map(|why| format!("ok: {why}")),
        ),
        Some(report) if report.ledger.is_none() => Err("the host cannot be read".to_owned()),
        Some(_) => Ok("ok".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel, sync_channel};
    use std::time::Instant;

    use overcommit_core::growth::Growth;
    use overcommit_core::ports::{HostPort, PortError};
    use overcommit_core::sample::HostSample;
    use overcommit_core::units::Bytes;
    use overcommit_host::{Glimpses, Root};

    use super::*;
    use crate::journal::Journal;
    use crate::kept::Pulse;
    use crate::orders::Orders;
    use crate::report::{Reporter, metrics};
    use crate::scribe::Scribe;
    use crate::state_dir::StateDir;
    use crate::tick::no_guests::NoGuests;
    use crate::tick::{Loop, Parts, Purpose, Stop, Wake};

    const DEADLINE: Duration = Duration::from_secs(20);

    /// A host whose files do not answer before the other end of the channel is gone.
    struct HungHost(Receiver<()>);

    impl HostPort for HungHost {
        fn sample(&mut self) -> Result<HostSample, PortError> {
            let _ = self.0.recv();
            Err(PortError { what: "/proc".to_owned(), why: "hung".to_owned() })
        }
    }

    fn wait(what: &str, so: impl Fn() -> bool) {
        let end = Instant::now() + DEADLINE;
        while !so() {
            assert!(Instant::now() < end, "{what}");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_loop_that_waits_is_well_and_one_that_hangs_in_a_turn_is_late() {
        let beat = Arc::new(Beat::new(Duration::from_millis(200)));
        let (reporter, _latest, _done) = Reporter::new(
            metrics::Metrics::register(&mut Registry::default(), Vec::new()),
            None,
            Arc::clone(&beat),
            Pulse::default(),
        );
        let temp = tempfile::tempdir().unwrap();
        let dir = Arc::new(StateDir::open(temp.path()).unwrap());
        let (hold, released) = channel();
        let work = Loop::new(Parts {
            host: Box::new(HungHost(released)),
            guests: Box::new(NoGuests::default()),
            glimpses: Glimpses::new(&Root::new(temp.path())),
            journal: Journal::open(&dir, "boot"),
            knobs: crate::knobs::Hand::start(temp.path()).unwrap(),
            scribe: Scribe::start(dir, |_, _| ()).unwrap(),
            contact: None,
            reporter,
            eviction: Box::new(|_| Bytes::ZERO),
            learned: Growth::default(),
            tape: None,
            recording: None,
            purpose: Purpose::Control,
            released: false,
            restarted: None,
        });
        let (wakes, inbox) = channel();
        let running = std::thread::spawn(move || work.run(&inbox));

        // Without orders it turns once a second, which is more than the slack here.
        let (reply, answer) = sync_channel(1);
        wakes.send(Wake::Ask(reply)).unwrap();
        assert!(answer.recv_timeout(DEADLINE).unwrap().is_none());
        wait("the loop to be well", || beat.late().is_none());

        let orders = Orders::from_file("p", &overcommit_crds::OvercommitPolicySpec::default()).unwrap();
        wakes.send(Wake::Orders(Arc::new(orders))).unwrap();
        wait("the loop to be late", || beat.late().is_some_and(|late| late > Duration::from_secs(1)));
        drop(hold);
        wait("the loop to be well again", || beat.late().is_none());
        wakes.send(Wake::Stop(Stop::Handover)).unwrap();
        assert_eq!(running.join().unwrap(), Ok(()));
    }
}
