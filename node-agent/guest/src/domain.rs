//! One domain, as its connection's thread sees it. Every call blocks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use overcommit_core::ports::Evident;
use overcommit_core::sample::{Balloon, GuestConfig, RunState};
use overcommit_core::units::Bytes;
use virt::domain::{Domain, DomainInfo, DomainState};
use virt::error::{Error, ErrorNumber};

use crate::balloon;
use crate::definition::{self, Definition};

/// How old a definition may get: devices can be plugged while a guest runs.
const DEFINITION_AGE: Duration = Duration::from_mins(1);
/// Longest text taken over from a daemon, which may be a tenant's.
const LONGEST_TEXT: usize = 400;

/// What was seen of a domain.
#[derive(Clone, Debug)]
pub(crate) struct Observation {
    pub(crate) uuid: Arc<str>,
    pub(crate) domain: Arc<str>,
    pub(crate) config: GuestConfig,
    /// The most that each pluggable device can have.
    pub(crate) pluggable: Vec<Bytes>,
    pub(crate) run_state: RunState,
    pub(crate) balloon: Option<Balloon>,
    pub(crate) trouble: Option<String>,
}

impl Observation {
    /// A guest that no libvirt has told of.
    pub(crate) fn of_process(evident: Evident) -> Self {
        Self {
            uuid: evident.uuid,
            domain: Arc::from(clean(&evident.domain)),
            config: GuestConfig {
                full: evident.full,
                plugged: Bytes::ZERO,
                plugging: false,
                has_balloon: evident.has_balloon,
                free_page_reporting: false,
                untouchable: Vec::new(),
                vcpus: None,
            },
            pluggable: Vec::new(),
            run_state: RunState::Unreachable,
            balloon: None,
            trouble: None,
        }
    }
}

/// A domain that is kept hold of.
pub(crate) struct Tracked {
    pub(crate) handle: Domain,
    pub(crate) id: Option<u32>,
    name: Arc<str>,
    definition: Option<Read>,
}

/// A definition that was read.
#[derive(Clone)]
struct Read {
    at: Instant,
    max_mem: u64,
    definition: Definition,
    trouble: Option<String>,
}

impl Tracked {
    pub(crate) fn new(handle: Domain, id: Option<u32>) -> Self {
        let name = handle.name().map_or_else(|_| Arc::from(""), |name| Arc::from(clean(&name)));
        Self { handle, id, name, definition: None }
    }

    /// Has the definition read again at the next look.
    pub(crate) fn forget_definition(&mut self) {
        self.definition = None;
    }

    /// What is seen of the domain; nothing if it is gone, an error if nothing can be said of it.
    pub(crate) fn observe(&mut self, uuid: &Arc<str>) -> Result<Option<Observation>, Error> {
        let looked = self.look(uuid);
        match looked {
            Err(error) if is_gone(&error) => Ok(None),
            other => other,
        }
    }

    fn look(&mut self, uuid: &Arc<str>) -> Result<Option<Observation>, Error> {
        let info = self.handle.info()?;
        let Some(mut run_state) = run_state(&info) else { return Ok(None) };
        let read = self.definition(&info)?;
        let mut trouble = read.trouble;
        let mut balloon = None;
        let job = self.job();
        if job != Job::None {
            run_state = RunState::Busy;
        }
        if job == Job::Arriving {
            // libvirt would let every other call wait for 30 s and then refuse it.
            trouble = trouble.or_else(|| Some("it arrives by migration".to_owned()));
        } else if read.definition.config.has_balloon {
            match self.handle.memory_stats(0) {
                Ok(stats) => balloon = balloon::from_stats(&stats, read.definition.period),
                Err(error) if is_gone(&error) => return Err(error),
                Err(error) => trouble = Some(format!("no balloon statistics: {}", text(&error))),
            }
        }
        let domain = Arc::clone(&self.name);
        let Definition { config, pluggable, .. } = read.definition;
        let uuid = Arc::clone(uuid);
        Ok(Some(Observation { uuid, domain, config, pluggable, run_state, balloon, trouble }))
    }

    /// The definition, read again when it is old or the domain's size changed, and each time where memory can be plugged:
    /// nothing cheaper says how much of it the guest has.
    fn definition(&mut self, info: &DomainInfo) -> Result<Read, Error> {
        let lasts = |read: &&Read| read.definition.pluggable.is_empty() && read.at.elapsed() < DEFINITION_AGE;
        let fresh = |read: &&Read| lasts(read) && read.max_mem == info.max_mem;
        if let Some(read) = self.definition.as_ref().filter(fresh) {
            return Ok(read.clone());
        }
        let (definition, trouble) = match definition::parse(&self.handle.xml_desc(0)?) {
            Ok(definition) => (definition, None),
            Err(error) => {
                (definition::unknown(Bytes::from_kib(info.max_mem)), Some(clean(&error.to_string())))
            }
        };
        let read = Read { at: Instant::now(), max_mem: info.max_mem, definition, trouble };
        Ok(self.definition.insert(read).clone())
    }

    /// Whether a job (migration, dump, snapshot) holds the domain.
    fn job(&self) -> Job {
        match self.handle.job_info() {
            Ok(job) if job.r#type == BOUNDED || job.r#type == UNBOUNDED => Job::Running,
            // The destination of a migration has no statistics of it to give and refuses
            // (qemuDomainGetJobStatsInternal, src/qemu/qemu_driver.c).
            Err(error) if is(&error, ErrorNumber::OperationInvalid) => Job::Arriving,
            _ => Job::None,
        }
    }
}

/// A domain job.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Job {
    None,
    Running,
    Arriving,
}

/// `VIR_DOMAIN_JOB_BOUNDED` (libvirt-domain.h), in the type that `virt` gives it.
const BOUNDED: i32 = 1;
/// `VIR_DOMAIN_JOB_UNBOUNDED`.
const UNBOUNDED: i32 = 2;

/// What a domain does; nothing for one that is off.
fn run_state(info: &DomainInfo) -> Option<RunState> {
    match info.state.known() {
        Some(DomainState::Shutoff) => None,
        Some(DomainState::Running | DomainState::Blocked) => Some(RunState::Running),
        Some(DomainState::Shutdown) => Some(RunState::Busy),
        _ => Some(RunState::Paused),
    }
}

fn is(error: &Error, number: ErrorNumber) -> bool {
    error.code().is(number)
}

pub(crate) fn is_gone(error: &Error) -> bool {
    is(error, ErrorNumber::NoDomain)
}

/// It says nothing of what became of a call: the daemon or its connection failed in the middle of it (`VIR_ERR_RPC`,
/// `VIR_ERR_SYSTEM_ERROR`, and `VIR_ERR_INTERNAL_ERROR`, which is also what a connection that was closed is told by: libvirt,
/// src/rpc/virnetclient.c). One that waited for its turn in vain is a refusal: `VIR_ERR_OPERATION_TIMEOUT`.
pub(crate) fn is_no_answer(error: &Error) -> bool {
    [ErrorNumber::Rpc, ErrorNumber::SystemError, ErrorNumber::InternalError]
        .into_iter()
        .any(|number| is(error, number))
}

pub(crate) fn text(error: &Error) -> String {
    clean(error.message())
}

/// One line of bounded length: names and messages may come from a tenant's daemon.
pub(crate) fn clean(text: &str) -> String {
    text.chars().take(LONGEST_TEXT).map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_daemon_is_one_short_line() {
        assert_eq!(clean("a\nb\u{1b}[31m"), "a?b?[31m");
        assert_eq!(clean(&"x".repeat(10_000)).len(), LONGEST_TEXT);
    }
}
