//! The search for launchers, on a thread of its own: it opens what tenants own, and on a node that thrashes a look at all
//! processes takes its time.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use overcommit_core::ports::{Admission, PortError};
use overcommit_core::troubles::Troubles;
use overcommit_guest::{ConnectionKey, Notify, Target};
use overcommit_host::{Launcher, Refusal, Scan};

/// Looking at all processes costs some milliseconds; a new guest is charged a little later, never wrongly. A little less
/// than the usual control period, whose ticks ask.
const SCAN_AGE: Duration = Duration::from_secs(4);
/// How long the first tick waits for the first search.
const PATIENCE: Duration = Duration::from_secs(2);
/// A search that takes longer is a trouble.
const LATE: Duration = Duration::from_secs(10);

/// Whose sockets may be opened.
type Wanted = Arc<Admission>;

/// What was found: launchers that may be talked to, and pods that look like some and may not.
pub(crate) type Launchers = (Vec<(ConnectionKey, Target)>, Vec<Arc<str>>);

/// The launchers of this node as they were found last.
pub(crate) struct Search {
    requests: Sender<Wanted>,
    wanted: Wanted,
    /// What the last search looked for.
    asked_for: Wanted,
    found: Receiver<Result<Scan, PortError>>,
    /// Since when an answer is waited for.
    asked: Option<Instant>,
    /// When the last search that came back began.
    at: Option<Instant>,
    /// Whom launchers were found for, or that there are none.
    searched: Option<Wanted>,
    /// Why the last search that came back found nothing.
    failure: Option<String>,
    refusals: Vec<String>,
}

impl Search {
    /// Starts the thread; it ends with the value, once the search that it is in returns.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(crate) fn start(
        mut scan: impl FnMut(&Admission) -> Result<Scan, PortError> + Send + 'static,
        notify: Notify,
    ) -> std::io::Result<Self> {
        let (requests, inbox) = channel::<Wanted>();
        let (out, found) = channel();
        std::thread::Builder::new().name("launchers".to_owned()).spawn(move || {
            while let Ok(wanted) = inbox.recv()
                && out.send(scan(&wanted)).is_ok()
            {
                notify();
            }
        })?;
        let (wanted, asked_for) = (Wanted::default(), Wanted::default());
        let (asked, at, searched, failure, refusals) = (None, None, None, None, Vec::new());
        Ok(Self { requests, wanted, asked_for, found, asked, at, searched, failure, refusals })
    }

    /// From now on the sockets of these may be opened, and no others.
    pub(crate) fn admit(&mut self, wanted: Wanted) {
        self.wanted = wanted;
    }

    /// Asks, if it is time to look again, or for others than last, and nothing is under way.
    pub(crate) fn ask(&mut self) {
        let is_new = self.at.is_some_and(|at| at.elapsed() < SCAN_AGE) && self.asked_for == self.wanted;
        if !is_new && self.asked.is_none() && self.requests.send(Arc::clone(&self.wanted)).is_ok() {
            self.asked = Some(Instant::now());
            self.asked_for = Arc::clone(&self.wanted);
        }
    }

    /// The launchers there are now, if that has come.
    pub(crate) fn hear(&mut self) -> Option<Launchers> {
        let answer = self.found.try_recv().ok()?;
        self.at = self.asked.take();
        match answer {
            // Others are wanted since: what was opened for nothing must not be talked to.
            Ok(_) if self.asked_for != self.wanted => {
                self.ask();
                None
            }
            Ok(scan) => {
                self.searched = Some(Arc::clone(&self.asked_for));
                Some(self.take(scan))
            }
            Err(error) => {
                (self.failure, self.refusals) = (Some(error.to_string()), Vec::new());
                None
            }
        }
    }

    fn take(&mut self, scan: Scan) -> Launchers {
        let known = |r: &Refusal| scan.launchers.iter().any(|l| l.pod_uid == r.pod_uid);
        let (told, refused): (Vec<_>, Vec<_>) = scan.refusals.into_iter().partition(known);
        (self.failure, self.refusals) = (None, told.iter().map(ToString::to_string).collect());
        let launcher = |l: Launcher| (ConnectionKey::new(l.pod_uid), Target::Launcher(l.socket));
        // One that must not be talked to has a guest all the same.
        let out_of_reach = |r: Refusal| {
            // Whoever tells of the connection names its pod.
            let why = Target::Refused(Arc::from(r.why.to_string()));
            (ConnectionKey::new(r.pod_uid), why)
        };
        let launchers = scan.launchers.into_iter().map(launcher);
        (launchers.chain(refused.into_iter().map(out_of_reach)).collect(), scan.strangers)
    }

    /// True until launchers were looked for once, for those who may be talked to: before that nobody knows of any guest, or
    /// not of those that were listed since.
    pub(crate) fn is_blind(&self) -> bool {
        self.searched.as_ref() != Some(&self.wanted)
    }

    /// The first answer about them may still come in time.
    pub(crate) fn is_waiting(&self) -> bool {
        self.is_blind() && self.asked.is_some_and(|asked| asked.elapsed() < PATIENCE)
    }

    /// What does not work, for people.
    pub(crate) fn troubles(&self) -> Troubles {
        let late = self.asked.map(|asked| asked.elapsed()).filter(|age| *age >= LATE).map(|age| {
            format!(
                "the search for launcher pods has not come back for {} s: guests that are new are not seen",
                age.as_secs()
            )
        });
        let mut troubles = Troubles::default();
        troubles.add_own(late.into_iter().chain(self.failure.clone()));
        troubles.add_of_guests(self.refusals.iter().cloned());
        troubles
    }
}

#[cfg(test)]
mod tests {
    use overcommit_host::SocketError;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    fn told(search: &Search) -> String {
        search.troubles().iter().collect()
    }

    /// What comes in the end.
    fn heard(search: &mut Search) -> Option<usize> {
        let end = Instant::now() + DEADLINE;
        while search.asked.is_some() {
            if let Some(found) = search.hear() {
                return Some(found.0.len());
            }
            assert!(Instant::now() < end, "no answer");
            std::thread::yield_now();
        }
        None
    }

    #[test]
    fn a_search_that_hangs_holds_nobody_up_and_is_told() {
        let (release, held) = channel::<()>();
        let scan = move |_: &Admission| {
            let _ = held.recv();
            Ok(Scan::default())
        };
        let mut search = Search::start(scan, Arc::new(|| ())).unwrap();
        search.ask();
        assert!(search.hear().is_none() && search.is_blind() && search.is_waiting());
        assert_eq!(told(&search), "");
        search.asked = Instant::now().checked_sub(LATE);
        search.ask();
        assert!(told(&search).contains("has not come back for 10 s"), "{}", told(&search));
        assert!(search.is_blind() && !search.is_waiting(), "the first tick goes on without it");
        release.send(()).unwrap();
        assert_eq!(heard(&mut search), Some(0));
        assert!(!search.is_blind() && told(&search).is_empty());
    }

    #[test]
    fn a_search_that_fails_leaves_the_node_unknown_and_is_made_again() {
        let mut fails = true;
        let error = || PortError { what: "launcher pods".to_owned(), why: "no procfs".to_owned() };
        let scan = move |_: &Admission| {
            if std::mem::take(&mut fails) { Err(error()) } else { Ok(Scan::default()) }
        };
        let mut search = Search::start(scan, Arc::new(|| ())).unwrap();
        search.ask();
        assert_eq!(heard(&mut search), None);
        assert!(search.is_blind() && told(&search).contains("no procfs"));
        assert_eq!(search.troubles().own().count(), 1, "the node's own");
        search.ask();
        assert!(search.asked.is_none(), "it is too early");
        search.at = Instant::now().checked_sub(SCAN_AGE);
        search.ask();
        assert_eq!(heard(&mut search), Some(0));
        assert!(!search.is_blind() && told(&search).is_empty());
    }

    #[test]
    fn a_launcher_that_must_not_be_talked_to_is_named_by_its_connection_alone() {
        let mut search = Search::start(|_| Ok(Scan::default()), Arc::new(|| ())).unwrap();
        let refusal = Refusal { pod_uid: Arc::from("uid-1"), why: SocketError::NoDaemon };
        let (found, _) = search.take(Scan { refusals: vec![refusal], ..Scan::default() });
        assert_eq!(found[0].0.as_str(), "uid-1");
        let Target::Refused(why) = &found[0].1 else { panic!("{found:?}") };
        assert!(why.starts_with("its guest runs"), "{why}");
    }

    #[test]
    fn what_was_searched_for_others_than_are_wanted_now_is_searched_anew_at_once() {
        let scan = |wanted: &Admission| {
            Ok(Scan { strangers: wanted.owed.iter().cloned().collect(), ..Scan::default() })
        };
        let mut search = Search::start(scan, Arc::new(|| ())).unwrap();
        let pod: Arc<str> = Arc::from("pod-1");
        search.ask();
        search.admit(Arc::new(Admission { owed: [Arc::clone(&pod)].into(), ..Admission::default() }));
        let end = Instant::now() + DEADLINE;
        let found = loop {
            if let Some(found) = search.hear() {
                break found;
            }
            assert!(Instant::now() < end, "no answer");
            std::thread::yield_now();
        };
        assert_eq!(found.1, [pod], "the first answer was of no use");
        search.ask();
        assert!(search.asked.is_none(), "it is too early");
        assert!(!search.is_blind());
        search.admit(Arc::default());
        search.ask();
        assert!(search.asked.is_some() && search.is_blind() && search.is_waiting(), "who is wanted changed");
    }
}
