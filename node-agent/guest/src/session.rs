//! One connection to libvirt, as its own thread sees it. Everything here blocks.

use std::collections::HashMap;
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use overcommit_core::plan::Failed;
use overcommit_core::sample::Balloon;
use overcommit_core::units::Bytes;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::Error;
use virt::sys;

use crate::balloon;
use crate::domain::{Observation, Tracked, is_gone, is_no_answer, text};
use crate::target::Target;

/// Waiting time after the first failed attempt to connect; doubled after each further one.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Longest waiting time between attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Domains of one launcher that are looked at; KubeVirt's have one.
const DOMAINS_PER_LAUNCHER: usize = 4;
/// What is said of a domain that ended in mid-call.
const GONE: &str = "the domain is gone";

/// A domain as the directory of a libvirt lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) uuid: Arc<str>,
    /// Changes with each start of the domain.
    pub(crate) id: Option<u32>,
}

/// Which domains a connection looks at.
#[derive(Clone, Debug)]
pub(crate) enum Scope {
    /// All that run, at most [`DOMAINS_PER_LAUNCHER`].
    Launcher,
    /// This one.
    Domain(Listed),
}

/// A change of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Target(Bytes),
    Period(u32),
}

/// A connection that opens itself when needed.
pub(crate) struct Session {
    target: Target,
    connect: Option<Connect>,
    tracked: HashMap<Arc<str>, Tracked>,
    wait: Duration,
    not_before: Option<(Instant, String)>,
}

impl Session {
    pub(crate) fn new(target: Target) -> Self {
        static QUIET: Once = Once::new();
        // libvirt's default handler prints every error to stderr.
        QUIET.call_once(virt::error::clear_error_callback);
        Self { target, connect: None, tracked: HashMap::new(), wait: FIRST_WAIT, not_before: None }
    }

    /// The domains that run.
    pub(crate) fn list(&mut self) -> Result<Vec<Listed>, String> {
        let handles = self.running()?;
        Ok(handles.into_iter().filter_map(|handle| listed(&handle).ok()).collect())
    }

    /// Looks at the domains in scope. A domain that is gone is not among them.
    pub(crate) fn observe(&mut self, scope: &Scope) -> Result<Vec<Observation>, String> {
        self.track(scope)?;
        let mut seen = Vec::new();
        let mut lost = None;
        for (uuid, tracked) in &mut self.tracked {
            match tracked.observe(uuid) {
                Ok(Some(observation)) => seen.push(observation),
                Ok(None) => {}
                Err(error) => lost = Some(error),
            }
        }
        match lost {
            Some(error) if !self.drop_if_dead() => Err(text(&error)),
            Some(error) => Err(format!("the connection was lost: {}", text(&error))),
            None => Ok(seen),
        }
    }

    /// The statistics of a domain that was looked at before; absent if it is gone or has none.
    pub(crate) fn glance(&mut self, uuid: &str) -> Result<Option<Balloon>, String> {
        let Some(tracked) = self.tracked.get(uuid) else { return Ok(None) };
        match tracked.handle.memory_stats(0) {
            Ok(stats) => Ok(balloon::from_stats(&stats, None)),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => {
                self.drop_if_dead();
                Err(text(&error))
            }
        }
    }

    /// Carries an order out on a domain.
    pub(crate) fn carry_out(&mut self, uuid: &str, order: Order) -> Result<(), Failed> {
        if !self.tracked.contains_key(uuid) {
            self.track(&Scope::Domain(Listed { uuid: Arc::from(uuid), id: None }))?;
        }
        let Some(tracked) = self.tracked.get_mut(uuid) else { return Err(GONE.into()) };
        let done = match order {
            Order::Target(target) => {
                tracked.handle.set_memory_flags(target.to_kib_floor(), sys::VIR_DOMAIN_MEM_LIVE)
            }
            Order::Period(seconds) => {
                tracked.forget_definition(); // it shows the period
                let seconds = i32::try_from(seconds).unwrap_or(i32::MAX);
                tracked.handle.set_memory_stats_period(seconds, sys::VIR_DOMAIN_MEM_LIVE)
            }
        };
        done.map_err(|error| {
            let dead = self.drop_if_dead();
            match () {
                () if is_gone(&error) => GONE.into(),
                () if dead || is_no_answer(&error) => Failed::unanswered(text(&error)),
                () => text(&error).into(),
            }
        })
    }

    /// Lets go of everything, as after a panic inside of a call.
    pub(crate) fn forget(&mut self) {
        self.tracked.clear();
        self.connect = None;
    }

    fn running(&mut self) -> Result<Vec<Domain>, String> {
        let connect = self.connect()?;
        connect.list_all_domains(sys::VIR_CONNECT_LIST_DOMAINS_ACTIVE).map_err(|error| {
            self.drop_if_dead();
            text(&error)
        })
    }

    /// Takes hold of the domains in scope and lets go of all others.
    fn track(&mut self, scope: &Scope) -> Result<(), String> {
        match scope {
            Scope::Launcher => {
                let mut found: Vec<(Listed, Domain)> = self
                    .running()?
                    .into_iter()
                    .filter_map(|handle| Some((listed(&handle).ok()?, handle)))
                    .collect();
                found.sort_by_key(|(listed, _)| listed.id);
                found.truncate(DOMAINS_PER_LAUNCHER);
                self.tracked.retain(|uuid, t| found.iter().any(|(l, _)| l.uuid == *uuid && l.id == t.id));
                for (listed, handle) in found {
                    self.tracked.entry(listed.uuid).or_insert_with(|| Tracked::new(handle, listed.id));
                }
            }
            Scope::Domain(listed) => {
                self.tracked
                    .retain(|uuid, t| *uuid == listed.uuid && (listed.id.is_none() || listed.id == t.id));
                if self.tracked.is_empty() {
                    let connect = self.connect()?;
                    match connect.lookup_domain_by_uuid_string(&listed.uuid) {
                        Ok(handle) => {
                            let id = handle.id();
                            self.tracked.insert(Arc::clone(&listed.uuid), Tracked::new(handle, id));
                        }
                        Err(error) if is_gone(&error) => {}
                        Err(error) => {
                            self.drop_if_dead();
                            return Err(text(&error));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// The connection, opened if need be; refuses while the waiting time after a failure runs.
    fn connect(&mut self) -> Result<&Connect, String> {
        if self.connect.is_none() {
            if let Some((until, why)) = &self.not_before
                && Instant::now() < *until
            {
                return Err(why.clone());
            }
            self.connect = Some(self.open()?);
        }
        self.connect.as_ref().ok_or_else(|| "not connected".to_owned())
    }

    fn open(&mut self) -> Result<Connect, String> {
        if let Target::Refused(why) = &self.target {
            return Err(why.to_string());
        }
        let mut why = Vec::new();
        for way in self.target.ways() {
            let opened = way.open().map_err(|error| format!("{way}: {error}"));
            let connected = opened.and_then(|(uri, _door)| {
                Connect::open(Some(&uri)).map_err(|error| format!("{way}: {}", text(&error)))
            });
            match connected {
                Ok(connect) => {
                    self.wait = FIRST_WAIT;
                    self.not_before = None;
                    return Ok(connect);
                }
                Err(error) => why.push(error),
            }
        }
        let why = format!("cannot connect to libvirt: {}", why.join("; "));
        self.not_before = Instant::now().checked_add(self.wait).map(|until| (until, why.clone()));
        self.wait = self.wait.saturating_mul(2).min(LONGEST_WAIT);
        Err(why)
    }

    /// After a failed call: true if the connection is dead and was let go of, to be opened anew.
    fn drop_if_dead(&mut self) -> bool {
        let dead = self.connect.as_ref().is_some_and(|c| !matches!(c.is_alive(), Ok(true)));
        if dead {
            self.forget();
        }
        dead
    }
}

fn listed(handle: &Domain) -> Result<Listed, Error> {
    Ok(Listed { uuid: Arc::from(handle.uuid_string()?), id: handle.id() })
}

#[cfg(test)]
mod tests {
    use overcommit_core::sample::RunState;

    use super::*;

    fn session() -> Session {
        Session::new(Target::Uri(Arc::from("test:///default")))
    }

    #[test]
    fn a_domain_is_listed_observed_and_driven() {
        let mut session = session();
        let listed = session.list().unwrap();
        assert_eq!(listed.len(), 1);
        let scope = Scope::Domain(listed[0].clone());
        let seen = session.observe(&scope).unwrap().remove(0);
        assert_eq!((&*seen.domain, seen.run_state), ("test", RunState::Running));
        assert_eq!(seen.config.full, Bytes::from_gib(8));
        session.carry_out(&listed[0].uuid, Order::Target(Bytes::from_gib(1))).unwrap();
        let refused = session.carry_out(&listed[0].uuid, Order::Target(Bytes::from_gib(100))).unwrap_err();
        assert!(matches!(&refused, Failed::Refused(why) if why.contains("memory")), "{refused}");
    }

    #[test]
    fn a_domain_that_never_was_is_gone() {
        let mut session = session();
        let uuid = "00000000-1111-2222-3333-444444444444";
        assert_eq!(session.carry_out(uuid, Order::Period(1)), Err(GONE.into()));
        let scope = Scope::Domain(Listed { uuid: Arc::from(uuid), id: Some(1) });
        assert!(session.observe(&scope).unwrap().is_empty());
    }

    #[test]
    fn a_failed_attempt_to_connect_is_not_repeated_at_once() {
        let mut session = Session::new(Target::Uri(Arc::from("qemu+unix:///system?socket=/nonexistent")));
        let first = session.list().unwrap_err();
        assert!(first.contains("/nonexistent"), "{first}");
        assert!(session.not_before.is_some());
        assert_eq!(session.list().unwrap_err(), first);
        assert_eq!(session.wait, FIRST_WAIT * 2, "one attempt only");
    }
}
