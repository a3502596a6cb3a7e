//! Who hangs where: a reader that does not come back from one process must not keep others from all the rest.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

/// The processes that readers are at now. A read of a command line or of mappings waits for the process's memory lock
/// (`mmap_lock`), for seconds while a large guest is torn down, or for good; another reader passes such a process over, and
/// looks for no other in its pod.
#[derive(Clone, Debug, Default)]
pub struct Visits(Arc<Mutex<HashSet<u32>>>);

/// One reader at one process, until it is dropped.
#[derive(Debug)]
pub(crate) struct Visit {
    visits: Visits,
    pid: u32,
}

impl Visits {
    /// Goes to a process; absent while another reader is there.
    pub(crate) fn enter(&self, pid: u32) -> Option<Visit> {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(pid);
        free.then(|| Visit { visits: self.clone(), pid })
    }

    /// True while a reader is at any process.
    pub(crate) fn are_any(&self) -> bool {
        !self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// True while a reader is at one of these processes.
    pub(crate) fn are_at(&self, pids: &[u32]) -> bool {
        let visited = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pids.iter().any(|pid| visited.contains(pid))
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.visits.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.pid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_one_is_another_does_not_go_before_it_left() {
        let (visits, others) = (Visits::default(), Visits::default());
        let visit = visits.enter(7).unwrap();
        assert!(visits.clone().enter(7).is_none() && visits.enter(8).is_some() && others.enter(7).is_some());
        assert!(visits.are_any() && visits.are_at(&[6, 7]) && !visits.are_at(&[6, 8]));
        drop(visit);
        assert!(!visits.are_any() && visits.enter(7).is_some());
    }
}
