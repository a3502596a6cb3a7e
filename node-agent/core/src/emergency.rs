//! The declared emergency: the node itself is about to kill, and the regular floors cannot prevent it (design §6.9).
//!
//! Only then is a floor crossed, down to the emergency floor. It takes both signals: the account is short, and the
//! host's kernel says that memory is gone. Either alone is no emergency: a shortfall harms nobody until it is touched,
//! and pressure without a shortfall is not the guests' doing. Nor is it one while swap keeps all that guests may touch, however
//! the node stalls.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ledger::Ledger;
use crate::sample::HostSample;
use crate::units::{Bytes, Monotonic, Permille};

/// Available memory above the kubelet's eviction line at which the node is about to kill; the kubelet looks each 10 s
/// (`--housekeeping-interval`), so the line must not be reached.
const MARGIN: Permille = Permille::new(10);
/// `full avg10` in hundredths of a percent: a tenth of all time lost, by all tasks at once.
const STALLED: u32 = 1000;
/// Stalls are the node's only while this much at most is available above the line: a pod that thrashes within a limit of
/// its own stalls too, and its tenant must not have the floors of others crossed.
const STRAINED: Permille = Permille::new(50);
/// An emergency lasts at least this long, so that it does not flicker.
const LASTS: Duration = Duration::from_secs(10);

/// Whether the node is in an emergency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Emergency {
    until: Option<Monotonic>,
}

impl Emergency {
    /// Looks at the host; true while an emergency is declared.
    pub fn declare(&mut self, host: &HostSample, ledger: &Ledger, eviction: Bytes, now: Monotonic) -> bool {
        // A kernel that can still swap kills nobody.
        let kills = !ledger.swap_keeps_all();
        if !ledger.shortfall.is_zero() && distressed(host, eviction) && kills {
            self.until = Some(now.after(LASTS));
        }
        self.until = self.until.filter(|until| *until > now);
        self.until.is_some()
    }
}

/// The host's kernel says that memory is gone.
pub fn distressed(host: &HostSample, eviction: Bytes) -> bool {
    let below = |part| host.memory.available < eviction.plus(host.memory.total.share(part));
    let stalled = host.pressure.is_some_and(|p| p.full_avg10 >= STALLED);
    below(MARGIN) || (stalled && below(STRAINED))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{HostMemory, Pressure};

    fn host(available: u64, full_avg10: u32) -> HostSample {
        let memory = HostMemory {
            total: Bytes::from_mib(10_000),
            available: Bytes::from_mib(available),
            ..HostMemory::default()
        };
        HostSample { memory, pressure: Some(Pressure { some_avg10: 0, full_avg10 }), ..HostSample::default() }
    }

    fn short(mib: u64) -> Ledger {
        Ledger { shortfall: Bytes::from_mib(mib), ..Ledger::default() }
    }

    #[test]
    fn it_takes_a_shortfall_and_the_kernels_word() {
        let declared = |host: &HostSample, ledger: &Ledger| {
            Emergency::default().declare(host, ledger, Bytes::from_mib(100), Monotonic::default())
        };
        assert!(declared(&host(150, 0), &short(1)));
        assert!(declared(&host(550, 1500), &short(1)));
        assert!(!declared(&host(150, 0), &short(0)));
        assert!(!declared(&host(550, 999), &short(1000)));
    }

    #[test]
    fn stalls_of_a_pod_within_its_own_limit_are_no_emergency_of_the_node() {
        let mut emergency = Emergency::default();
        assert!(!emergency.declare(
            &host(650, 9000),
            &short(1000),
            Bytes::from_mib(100),
            Monotonic::default()
        ));
    }

    #[test]
    fn it_is_none_while_swap_keeps_everything() {
        let swaps = |swap| Ledger {
            promised: Bytes::from_mib(9000),
            budget: Bytes::from_mib(8000),
            swap: Bytes::from_mib(swap),
            ..short(1)
        };
        let declared = |ledger: &Ledger| {
            Emergency::default().declare(&host(50, 5000), ledger, Bytes::ZERO, Monotonic::default())
        };
        assert!(!declared(&swaps(1000)));
        assert!(declared(&swaps(999)));
    }

    #[test]
    fn it_lasts_a_while_after_the_signal_and_then_ends() {
        let mut emergency = Emergency::default();
        let at = |s| Monotonic::new(Duration::from_secs(s));
        assert!(emergency.declare(&host(50, 0), &short(1), Bytes::ZERO, at(1)));
        assert!(emergency.declare(&host(5000, 0), &short(0), Bytes::ZERO, at(10)));
        assert!(!emergency.declare(&host(5000, 0), &short(0), Bytes::ZERO, at(11)));
    }
}
