//! Courses: what hosts, guests and policies may do to the loop over time, generated, valid and absurd, and run against
//! a plant in which balloons obey, lag, lie or deflate.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::struct_excessive_bools,
    clippy::unwrap_used
)]

pub mod generate;
pub mod life;
pub mod oracle;
pub mod pain;
pub mod plain;
pub mod plant;
pub mod prove;

use std::time::Duration;

use overcommit_core::policy::Policy;
use overcommit_core::roster::OptOut;
use overcommit_core::sample::{HostMemory, Pressure, RunState, Untouchable};
use overcommit_core::step::Turn;
use overcommit_core::units::Bytes;

/// One run of the loop from its first turn.
#[derive(Clone, Debug)]
pub struct Course {
    pub host: Host,
    pub policy: Policy,
    pub guests: Vec<Guest>,
    pub keep_found: bool,
    pub turns: Vec<TurnPlan>,
}

/// What the host has beside its guests.
#[derive(Clone, Debug)]
pub struct Host {
    /// All lines of `/proc/meminfo`; the guests' anonymous memory is added to `anon`.
    pub memory: HostMemory,
    pub pressure: Option<Pressure>,
}

/// What happens before one turn, and how it is taken.
#[derive(Clone, Debug)]
pub struct TurnPlan {
    pub after: Duration,
    /// The wall clock jumps by this many seconds beside `after`.
    pub wall_jump: i64,
    pub turn: Turn,
    pub paused: bool,
    pub release: bool,
    pub eviction: Bytes,
    /// No command of this turn is known to be carried out: it is refused, or nobody answers.
    pub refused: bool,
    pub changes: Vec<(usize, Change)>,
    pub host: Option<Host>,
    pub policy: Option<Policy>,
}

/// A guest as a plant: device, kernel, process and what the API says of it.
#[derive(Clone, Debug)]
pub struct Guest {
    /// It is a VMI of Kubernetes, not a domain of a host without.
    pub in_cluster: bool,
    pub full: Bytes,
    pub actual: Bytes,
    /// Memory that was plugged into it, and whether that goes on.
    pub plugged: Bytes,
    pub plugging: bool,
    /// What its programs cannot do without.
    pub used: Bytes,
    pub cache: Bytes,
    pub follows: Follow,
    pub words: Words,
    pub stamp: Stamp,
    pub period: Option<u32>,
    /// What its process holds; what it uses, if absent.
    pub held: Option<Bytes>,
    pub overhead: Option<Bytes>,
    pub request: Option<Bytes>,
    pub limit: Option<Bytes>,
    pub has_balloon: bool,
    pub untouchable: Option<Untouchable>,
    pub opt_out: Option<OptOut>,
    pub listed: bool,
    pub class: u8,
    pub migrating: bool,
    pub state: RunState,
    /// The balloon call fails although the guest runs.
    pub silent: bool,
    pub process: Option<u32>,
    /// Clock ticks after the start of the course.
    pub started: u64,
    pub present: bool,
    pub swap_in: u64,
    pub faults: u64,
}

/// What its balloon does with a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    AtOnce,
    /// So many MiB a second.
    Slowly(u64),
    Never,
}

/// What it says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Words {
    Honest,
    Raw { total: Option<Bytes>, unused: Option<Bytes>, usable: Option<Bytes> },
}

/// `last_update` of what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamp {
    Now,
    Frozen,
    Absent,
    Raw(u64),
    /// So many seconds from now, either way.
    Off(i64),
}

/// What happens to one guest between two turns.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    Uses(Bytes),
    Caches(Bytes),
    Follows(Follow),
    /// Its balloon goes there by itself and stays.
    Holds(Bytes),
    Says(Words),
    Stamps(Stamp),
    Period(Option<u32>),
    Held(Option<Bytes>),
    Overhead(Option<Bytes>),
    Request(Option<Bytes>),
    Limit(Option<Bytes>),
    State(RunState),
    Silent(bool),
    Untouchable(Option<Untouchable>),
    OptOut(Option<OptOut>),
    Listed(bool),
    Class(u8),
    Migrating(bool),
    SwapIn(u64),
    Faults(u64),
    Plugs(Bytes),
    Plugging(bool),
    Reboot,
    /// Another process under the same identity.
    Restart,
    LoseProcess,
    /// The host's kernel answers about its process, or does not.
    Shown(bool),
    Present(bool),
}
