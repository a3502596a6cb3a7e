//! Fuzz targets over everything that comes from outside the agent.
//!
//! A [`Target`] takes any bytes for one kind of input, gives them to the product's own parser, and asserts what must
//! hold whatever they say: no panic, and beyond that that nothing is invented, nothing grows without bound, and what was
//! written is read again. The same targets are
//!
//! - replayed over `corpus/` by `cargo test`: seeds, and every input that ever failed, also stretched and damaged;
//! - searched by coverage with libFuzzer by `make fuzz` (`src/bin/engine.rs`, driven by `src/bin/fuzz.rs`).
//!
//! A new target is a function in one of these modules, a line in [`TARGETS`] and a folder of seeds.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::unwrap_used)] // all of it is test code

mod cursor;
mod guests;
mod kept;
mod kernel;
mod kubelet;
mod policies;
mod processes;
mod programs;

/// The agent is a binary: the files that hold what it reads from disk and from the API server are taken in as they are.
#[allow(dead_code)]
#[path = "../../../node-agent/src/envelope.rs"]
mod envelope;
#[allow(dead_code)]
#[path = "../../../node-agent/src/journal/format.rs"]
mod journal;
#[allow(dead_code)]
#[path = "../../../node-agent/src/orders.rs"]
mod orders;
#[allow(dead_code)]
#[path = "../../../node-agent/src/intake/received.rs"]
mod received;

/// Longest input that is tried.
pub const LONGEST: usize = 64 << 10;

/// One kind of input.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its folder in the corpus.
    pub name: &'static str,
    /// Takes any bytes; panics when something does not hold.
    pub check: fn(&[u8]),
}

/// All kinds.
pub const TARGETS: &[Target] = &[
    Target { name: "meminfo", check: kernel::meminfo },
    Target { name: "vmstat", check: kernel::vmstat },
    Target { name: "pressure", check: kernel::pressure },
    Target { name: "limits", check: kernel::limits },
    Target { name: "memory-stat", check: kernel::memory_stat },
    Target { name: "mountinfo", check: kernel::mountinfo },
    Target { name: "status", check: processes::status },
    Target { name: "stat", check: processes::stat },
    Target { name: "smaps", check: processes::smaps },
    Target { name: "cgroup", check: processes::cgroup },
    Target { name: "command-line", check: processes::command_line },
    Target { name: "oom-score", check: processes::oom_score },
    Target { name: "kubelet-config", check: kubelet::config },
    Target { name: "kubelet-flag", check: kubelet::flag },
    Target { name: "quantity", check: kubelet::quantity },
    Target { name: "definition", check: guests::definition },
    Target { name: "balloon", check: guests::balloon },
    Target { name: "relay", check: guests::relay },
    Target { name: "hostile-guest", check: guests::hostile_guest },
    Target { name: "policy-file", check: policies::file },
    Target { name: "amounts", check: policies::amounts },
    Target { name: "selector", check: policies::selector },
    Target { name: "classes", check: policies::classes },
    Target { name: "program", check: programs::program },
    Target { name: "program-world", check: programs::world },
    Target { name: "journal", check: kept::journal },
    Target { name: "learned", check: kept::learned },
    Target { name: "orders", check: kept::orders },
];

/// The target of that name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Text as most readers see it: bytes that are no UTF-8 are replaced.
fn lossy(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
