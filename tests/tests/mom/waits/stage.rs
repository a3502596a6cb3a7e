//! Real guests and an agent whose policy carries a program; one test at a time has them.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Result, ensure};
use overcommit_tests::agent::{Agent, ProgramSaw};
use overcommit_tests::guests::{Guest, GuestSpec, Hypervisor, Load};
use overcommit_tests::session::Session;
use serde_json::json;

/// Full size of each guest, MiB.
pub(super) const SIZE: u64 = 384;
/// One that holds memory, one that has filled its page cache, and one at rest with swap of its own.
const NAMES: [&str; 3] = ["holds", "caches", "rests"];

pub(super) struct Stage {
    pub(super) guests: MutexGuard<'static, Vec<Guest>>,
    pub(super) agent: Agent,
    /// What the agent records.
    pub(super) recording: PathBuf,
}

impl Stage {
    /// In this mode, with a program and the rest of a policy's spec.
    pub(super) fn set(mode: &str, program: &str, further: &str) -> Result<Self> {
        static SHARED: Mutex<Vec<Guest>> = Mutex::new(Vec::new());
        let mut guests = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let hypervisor = Hypervisor::shared()?;
        if guests.is_empty() {
            let specs = [
                GuestSpec::new(NAMES[0], SIZE).load(Load::Hold { mib: 120 }),
                GuestSpec::new(NAMES[1], SIZE).load(Load::Idle { cache_mib: 150 }),
                GuestSpec::new(NAMES[2], SIZE).swap_mib(64),
            ];
            let start = |spec: GuestSpec| hypervisor.define_and_start(&spec.stats_period_s(1));
            *guests = specs.into_iter().map(start).collect::<Result<_>>()?;
            guests.iter().try_for_each(Guest::wait_booted)?;
        }
        // Of YAML texts in JSON are a part.
        let slots = json!({ "mom": { "slots": [{ "name": "50_main_", "program": program }] } });
        let policy = Agent::policy(mode, &format!("  engine: {slots}\n{further}"));
        let dir = Session::shared()?.fresh_dir("state")?;
        let recording = dir.join("recording");
        let record = format!("--record={}", recording.display());
        let agent = Agent::start_on_this_machine(hypervisor.uri(), &policy, &dir, &[record.as_str()])?;
        Ok(Self { guests, agent, recording })
    }

    /// What the program saw in its last cycle, of all guests, and what it said.
    pub(super) fn saw(&self) -> Result<ProgramSaw> {
        let saw = self.agent.program_saw()?;
        for name in NAMES {
            ensure!(saw.input.get().contains(&format!("{{\"name\":\"{name}\"")), "{name} is not seen");
        }
        Ok(saw)
    }
}
