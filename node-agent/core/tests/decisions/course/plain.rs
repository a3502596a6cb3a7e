//! Courses in which nothing happens but what a property lets happen.

use std::sync::Arc;
use std::time::Duration;

use overcommit_core::policy::{Adaptive, Class, Floor, Ksm, Limits, Mode, Policy, Reserve};
use overcommit_core::sample::{HostMemory, RunState};
use overcommit_core::step::Turn;
use overcommit_core::units::{Amount, Bytes, Permille};

use super::{Follow, Guest, Host, Stamp, TurnPlan, Words};

impl Host {
    /// One that has nothing but its guests.
    pub fn of(total: Bytes) -> Self {
        Self { memory: HostMemory { total, available: total, ..HostMemory::default() }, pressure: None }
    }
}

impl TurnPlan {
    /// One in which nothing happens but that time passes.
    pub fn plain(turn: Turn, after: Duration) -> Self {
        Self {
            after,
            wall_jump: 0,
            turn,
            paused: false,
            release: false,
            eviction: Bytes::ZERO,
            refused: false,
            changes: Vec::new(),
            host: None,
            policy: None,
        }
    }
}

/// A guest that obeys, tells the truth, and uses so much.
pub fn calm(full: Bytes, used: Bytes) -> Guest {
    Guest {
        in_cluster: false,
        full,
        actual: full,
        plugged: Bytes::ZERO,
        plugging: false,
        used,
        cache: Bytes::ZERO,
        follows: Follow::AtOnce,
        words: Words::Honest,
        stamp: Stamp::Now,
        period: Some(1),
        held: None,
        overhead: Some(Bytes::ZERO),
        request: None,
        limit: None,
        has_balloon: true,
        untouchable: None,
        opt_out: None,
        listed: true,
        class: 0,
        migrating: false,
        state: RunState::Running,
        silent: false,
        process: Some(1),
        started: 0,
        present: true,
        swap_in: 0,
        faults: 0,
    }
}

/// A policy that promises nothing, and bounds nothing.
pub fn one_class(interval: Duration) -> Policy {
    let floor = Floor { part: Permille::new(0), bytes: Bytes::ZERO, below_request: false };
    let whole = Amount::Part(Permille::new(1000));
    Policy {
        mode: Mode::Enforce,
        interval,
        classes: vec![Class { name: Arc::from("c0"), floor, weight: 100, exclude: false }],
        reserve: Reserve::NONE,
        limits: Limits { take_per_guest: whole, take_per_node: whole, dead_band: Amount::Bytes(Bytes::ZERO) },
        ksm: Ksm::default(),
        adaptive: Adaptive::default(),
        mom: None,
    }
}
