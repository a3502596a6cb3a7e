//! An agent of a cluster's node whose orders are lost while the API server is away, and real guests that it squeezed before:
//! each under a libvirt of its own in a pod of its own, as in KubeVirt's launchers.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use overcommit_core::units::Bytes;
use overcommit_crds::OvercommitPolicySpec;
use overcommit_crds::policy::Mode;
use overcommit_crds::quantity::{Period, SizeOrPercent};
use overcommit_tests::agent::{Agent, HostMemory, SOON, nobodys_kubeconfig, seal};
use overcommit_tests::guests::{GuestSpec, Load};
use overcommit_tests::launcher::Launcher;
use overcommit_tests::session::Session;
use overcommit_tests::wait;
use serde_json::{Value, json};

const SQUEEZED: &str = "0b1d1c52-6a07-4c0e-8f6e-1a2b3c4d5e01";
const APART: &str = "0b1d1c52-6a07-4c0e-8f6e-1a2b3c4d5e02";
const SIZE: u64 = 384;
/// What somebody else left the guest that no agent may touch.
const LEFT: u64 = 300;
/// A host on which everything fits.
const PLENTY: u64 = 16 * 1024;
/// One that is too small for one guest and its emulator.
const TOO_SMALL: u64 = 450;
/// What the policy keeps of it, so that the host is larger than its guests.
const KEPT: u64 = 1024;
/// Boot grace, then a take per statistics; on a busy machine a take is undone and tried again later.
const SQUEEZED_BY: Duration = Duration::from_mins(6);
/// A load that the guest has no room for once it is squeezed, and outgrows what it holds only after most of a minute.
const GROWS: Load = Load::Paced { mib: 230, ramp_mib_per_s: 4, pace_mib_per_s: 20 };

fn start(uid: &str, name: &str) -> Result<Launcher> {
    let launcher = Launcher::start(uid, &GuestSpec::new(name, SIZE).stats_period_s(2))?;
    launcher.guest.wait_booted()?;
    Ok(launcher)
}

/// Orders to squeeze the one and to leave the other alone, as they lie on the disk.
fn orders(state_dir: &Path) -> Result<()> {
    let mut spec = OvercommitPolicySpec {
        mode: Mode::Enforce,
        interval: Period("2s".to_owned()),
        ..OvercommitPolicySpec::default()
    };
    spec.reserve.minimum = SizeOrPercent(format!("{KEPT}Mi"));
    let guest = |name: &str, pod: &str, excluded: Option<&str>| {
        json!({"namespace": "shop", "name": name, "uid": name, "pods": [pod], "class": "default",
            "excluded": excluded})
    };
    let guests = [guest("squeezed", SQUEEZED, None), guest("apart", APART, Some("Annotation"))];
    let spec = json!({"policy": "p", "revision": "r", "resolved": overcommit_crds::resolve::resolve(&spec),
        "guests": guests});
    let version = json!({"uid": "u", "generation": 1});
    let content = json!({"node": "a", "version": version, "standing": "Stands", "spec": spec});
    seal(state_dir, "orders.json", &content)
}

#[test]
fn a_squeezed_guest_has_its_memory_from_an_agent_without_orders_and_others_are_not_touched() -> Result<()> {
    let (squeezed, apart) = (start(SQUEEZED, "squeezed")?, start(APART, "apart")?);
    apart.guest.set_balloon_mib(LEFT)?;
    wait::until(SOON, "what somebody else set", || apart.holds_mib().is_ok_and(|mib| mib == LEFT))?;
    let (dir, host) = (Session::shared()?.fresh_dir("state")?, HostMemory::new(PLENTY)?);
    let access = nobodys_kubeconfig(&dir)?;
    orders(&dir)?;
    let agent = Agent::start_on_node(&access, &dir, &host)?;
    host.set(agent.promised_mib(2)? + KEPT - 150)?;
    let is_squeezed = |g: &overcommit_tests::agent::GuestReport| g.actual < (SIZE - 100) << 20;
    agent.wait_guest(SQUEEZED_BY, "squeezed", "to be squeezed", is_squeezed)?;
    agent.kill()?;
    let before = squeezed.holds_mib()?;
    ensure!(before < SIZE - 100, "the balloon stays: {before} MiB");

    std::fs::remove_file(dir.join("orders.json"))?;
    host.set(PLENTY)?;
    squeezed.guest.begin(&GROWS)?;
    let agent = Agent::start_on_node(&access, &dir, &host)?;
    let report = agent.report()?;
    ensure!(report["orders_missing_since"].is_string() && report["paused"] == true, "{report}");
    let told = report["troubles"].to_string();
    ensure!(told.contains("no orders since") && told.contains("API server"), "{told}");
    agent.wait_guest(SOON, "squeezed", "to have its memory", |g| g.actual == SIZE << 20)?;
    squeezed.guest.wait_console(SOON, "held=230MiB")?;
    let explained = String::from_utf8(agent.ask(&["explain", "shop/squeezed"])?.stdout)?;
    ensure!(explained.contains("NO ORDERS since"), "{explained}");

    // However short the node is then, nothing is taken.
    host.set(TOO_SMALL)?;
    let mut turns = agent.turns();
    turns.fresh()?;
    let mut later = Vec::new();
    wait::until(SOON, "turns on a node that is short", || -> Result<()> {
        let is_short = agent.ledger("shortfall")? > 0;
        let fresh = turns.fresh()?;
        later.extend(fresh.into_iter().filter(|_| is_short));
        ensure!(later.len() >= 3, "{}", later.len());
        Ok(())
    })?;
    let done: Vec<_> = agent.turns().fresh()?.into_iter().flat_map(|turn| turn.actions).collect();
    ensure!(done.iter().all(|action| action.to > action.from && action.guest == "shop/squeezed"), "{done:?}");
    ensure!(squeezed.holds_mib()? == SIZE, "it was taken from");

    let report = agent.report()?;
    let known: Vec<&Value> = report["guests"].as_array().context("no guests")?.iter().collect();
    ensure!(known.len() == 1 && report["unlisted"]["pods"] == 1, "{report}");
    ensure!(apart.holds_mib()? == LEFT, "somebody else's guest was touched");
    agent.terminate()?;
    let journal = std::fs::read_to_string(dir.join("journal"))?;
    let original = Bytes::from_mib(SIZE).get().to_string();
    ensure!(journal.contains(&format!("\"target\":{original}")), "its original is forgotten: {journal}");
    squeezed.guest.expect_unhurt()
}
