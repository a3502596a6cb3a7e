//! The agent on a machine that thrashes, without swap: what it decides must not wait for its own pages.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use overcommit_tests::agent::{Agent, HostMemory};
use overcommit_tests::guests::{GuestSpec, Hypervisor};
use overcommit_tests::machine::{MIB, major_faults};
use overcommit_tests::session::Session;
use overcommit_tests::thrash::Thrash;
use overcommit_tests::wait;
use procfs::process::{MMPermissions, MMapPath, Process};

const SIZE: u64 = 384;
const PLENTY: u64 = 16 * 1024;
const SQUEEZED_BY: Duration = Duration::from_mins(6);
const VALVE: Duration = Duration::from_mins(12);
/// What programs write at a time, and so what the large pages hold.
const PIECE: usize = 256 << 10;
/// Turns of the loop while the machine thrashes.
const TURNS: usize = 20;

#[test]
fn on_a_machine_that_thrashes_the_loop_takes_and_gives_and_never_waits_for_a_page_of_its_own() -> Result<()> {
    let hypervisor = Hypervisor::start()?;
    let guest = hypervisor.define_and_start(&GuestSpec::new("thrashed-around", SIZE).stats_period_s(2))?;
    guest.wait_booted()?;
    let (host, dir) = (HostMemory::new(PLENTY)?, Session::shared()?.fresh_dir("state")?);
    let policy = Agent::policy("Enforce", "");
    let agent = Agent::start_program(&newly_written()?, hypervisor.uri(), &policy, &dir, &host)?;
    let promised = agent.promised_mib(1)?;

    let thrash = Thrash::begin(Session::shared()?, VALVE)?;
    let loop_pid = agent.loop_pid()?;
    let (before, mut turns, mut seen) = (major_faults(loop_pid)?, agent.turns(), 0);
    turns.fresh()?;
    host.set(promised - 100)?;
    agent.wait_guest(SQUEEZED_BY, "thrashed-around", "to be taken from", |g| g.actual < (SIZE - 40) * MIB)?;
    host.set(PLENTY)?;
    agent.wait_guest(SQUEEZED_BY, "thrashed-around", "to have it back", |g| g.actual == SIZE * MIB)?;
    wait::until(SQUEEZED_BY, "more turns of the loop", || {
        seen += turns.fresh()?.len();
        ensure!(seen >= TURNS, "{seen}");
        Ok(())
    })?;
    let (waited, read_again) = (major_faults(loop_pid)?.saturating_sub(before), thrash.pages()?);
    thrash.check()?;
    drop(thrash);
    eprintln!("{seen} turns, {read_again} pages read again by everybody, {waited} by the agent");
    ensure!(waited == 0, "the agent has waited {waited} times for its own pages");
    agent.terminate()
}

#[test]
fn what_loop_and_keeper_work_with_belongs_to_no_file_whose_pages_the_kernel_could_drop() -> Result<()> {
    let hypervisor = Hypervisor::start()?;
    let (host, dir) = (HostMemory::new(PLENTY)?, Session::shared()?.fresh_dir("state")?);
    let agent = Agent::start(hypervisor.uri(), &Agent::policy("Observe", ""), &dir, &host)?;
    let (of_loop, of_keeper) = (of_files(agent.loop_pid()?)?, of_files(agent.process().pid())?);
    ensure!(of_loop.iter().all(|file| file.contains("libicudata")), "still in the page cache: {of_loop:#?}");
    // It calls no other library than C's.
    let needed = |file: &&String| file.contains("overcommit-agent") || file.contains("libc.so");
    let needed: Vec<_> = of_keeper.iter().filter(needed).collect();
    ensure!(needed.is_empty() && !of_keeper.is_empty(), "still in the page cache: {needed:#?}");
    agent.terminate()
}

/// The agent's program as a build or an unpacked image leaves it: in the large pages of the page cache that writing makes.
/// What was dropped and read again lies in small ones, which hold better.
fn newly_written() -> Result<PathBuf> {
    let (built, copy) = (Agent::program()?, Session::shared()?.fresh_dir("new")?.join("overcommit-agent"));
    let mut file = File::create(&copy).with_context(|| copy.display().to_string())?;
    fs::read(&built)?.chunks(PIECE).try_for_each(|piece| file.write_all(piece))?;
    fs::set_permissions(&copy, fs::metadata(&built)?.permissions())?;
    Ok(copy)
}

/// What a process has mapped of files and what is not its own memory in all (`Anonymous` of `/proc/PID/smaps`, proc(5)).
fn of_files(pid: u32) -> Result<Vec<String>> {
    let maps = Process::new(i32::try_from(pid)?)?.smaps()?;
    let mapped = maps
        .iter()
        .filter(|map| matches!(map.pathname, MMapPath::Path(_)) && map.perms.contains(MMPermissions::READ));
    let of_files = mapped.filter(|map| map.extension.map.get("Anonymous") != map.extension.map.get("Size"));
    Ok(of_files.map(|map| format!("{:?} {:?}", map.perms, map.pathname)).collect())
}
