//! The ways in and out of the core: small synchronous traits that the node, a simulator, a replay and a
//! fault-injecting wrapper implement alike.

use crate::plan::{Command, Outcome};
use crate::sample::{GuestSample, HostSample};

/// A reading that failed as a whole.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {why}")]
pub struct PortError {
    /// What was read, with its path.
    pub what: String,
    /// What went wrong and what to do.
    pub why: String,
}

/// Reads the host.
pub trait HostPort {
    /// One reading.
    ///
    /// # Errors
    /// When a file without which no budget can be known (`/proc/meminfo`, `/proc/vmstat`) cannot be read.
    fn sample(&mut self) -> Result<HostSample, PortError>;
}

/// Reads and drives the guests. No call may block longer than the port's own deadline; a guest that does not
/// answer is reported as unreachable and delays no other.
pub trait GuestPort {
    /// All guests that exist now.
    fn sample(&mut self) -> Vec<GuestSample>;
    /// Carries the commands out and says what became of each.
    fn apply(&mut self, commands: &[Command]) -> Vec<Outcome>;
    /// How many hypervisors there are of which no guest list was ever seen: their guests are in no sample.
    fn unseen(&self) -> usize {
        0
    }
    /// What cannot be reached beyond single guests, for people.
    fn troubles(&self) -> Vec<String> {
        Vec::new()
    }
}
