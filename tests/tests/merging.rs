//! Equal pages of real guests, merged by the machine's own kernel, as the agent tells it to.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use overcommit_tests::agent::{Agent, HostMemory};
use overcommit_tests::guests::{Guest, GuestSpec, Hypervisor, Load};
use overcommit_tests::kernel_counts::anon_in_proportion;
use overcommit_tests::machine::MIB;
use overcommit_tests::merging::Merging;
use overcommit_tests::session::Session;
use overcommit_tests::wait;
use serde_json::Value;

const SIZE: u64 = 256;
const GUESTS: u64 = 3;
/// What they are promised leaves less than a fifth of it, and is no more than it has.
const HOST: u64 = 1152;
/// The same of twice as many guests, with room for what is no guest's.
const CROWD: u64 = 6;
const HOST_OF_CROWD: u64 = 2432;
const OTHERS: u64 = 100 * MIB;
/// Another test that uses it.
const PATIENCE: Duration = Duration::from_mins(10);
/// Tenants settle for 20 s, three passes, and a busy machine.
const SOON: Duration = Duration::from_mins(5);
/// What each fills: every other guest with what others fill too, the rest with what nobody can merge.
const FILLED: u32 = 64;
const SEED: u64 = 1;
/// Kernels and initial file systems are about 40 MiB of each guest, so that 328 MiB can be merged of six: five times these, and twice
/// what three of them fill alike.
const MERGED_MIB: i64 = 290;
/// How far what is no guest's may be above and below what the kernel counts. At rest: what six emulators hold more or less by
/// then. While ksmd is at work this test shows the host's memory older than the agent reads what is merged, which looks like
/// more beside the guests, by all that is merged meanwhile; less it never is.
const AT_REST: [u64; 2] = [12 * MIB, 12 * MIB];
const AT_WORK: [u64; 2] = [CROWD * SIZE * MIB, 12 * MIB];

fn guests(hypervisor: &Hypervisor, number: u64) -> Result<Vec<Guest>> {
    let fills = |n: u64| {
        if n.is_multiple_of(2) {
            Load::Equal { mib: FILLED.into(), seed: SEED }
        } else {
            Load::Hold { mib: FILLED.into() }
        }
    };
    let spec = |n| GuestSpec::new(format!("twin-{n}"), SIZE).load(fills(n));
    let start = |n| hypervisor.define_and_start(&spec(n));
    let guests = (0..number).map(start).collect::<Result<Vec<_>>>()?;
    guests.iter().try_for_each(Guest::wait_booted)?;
    Ok(guests)
}

fn agent(hypervisor: &Hypervisor, state: &Path, host: &HostMemory, ksm: &str) -> Result<Agent> {
    let policy = Agent::policy("Enforce", &format!("  ksm: {{mode: {ksm:?}}}\n"));
    Agent::start(hypervisor.uri(), &policy, state, host)
}

/// What the agent tells of merging: the reason's code, and whether ksmd is to scan.
fn told(agent: &Agent) -> Result<(String, bool)> {
    let report = agent.report()?;
    let of = |field: &str| report.pointer(&format!("/ksm/{field}")).cloned().context("nothing is told");
    Ok((of("code")?.as_str().unwrap_or_default().to_owned(), of("scan")? == Value::Bool(true)))
}

fn wait_knobs(ksm: &Merging, what: &str, so: impl Fn([i64; 3]) -> bool) -> Result<()> {
    wait::until(SOON, what, || {
        let knobs = ksm.knobs()?;
        ensure!(so(knobs), "{knobs:?}");
        Ok(())
    })
}

/// The host as the kernel counts it: each page of the guests once, and the same beside them all the time.
fn show(host: &HostMemory, guests: &[Guest]) -> Result<()> {
    let own = |guest: &Guest| anon_in_proportion(guest.qemu_pid()?);
    let held = guests.iter().map(own).sum::<Result<u64>>()?;
    host.set_holding(HOST_OF_CROWD, OTHERS + held)
}

/// What the agent takes for no guest's is what is none, within these bounds.
fn compare(agent: &Agent, [above, below]: [u64; 2]) -> Result<()> {
    let (others, merged) = (agent.ledger("non_guest")?, agent.ledger("merged")? / MIB);
    let within = others <= OTHERS + above && others + below >= OTHERS;
    ensure!(within, "{} of {} KiB, {merged} MiB merged", others / 1024, OTHERS / 1024);
    Ok(())
}

#[test]
fn equal_pages_are_merged_while_it_pays_and_are_no_budget_and_a_release_puts_the_knobs_back() -> Result<()> {
    let session = Session::shared()?;
    let ksm = Merging::take_over(session, PATIENCE)?;
    ksm.forget_the_dead(SOON)?;
    let found = ksm.knobs()?;
    let hypervisor = Hypervisor::start()?;
    let guests = guests(&hypervisor, CROWD)?;
    let (host, state) = (HostMemory::new(HOST_OF_CROWD)?, session.fresh_dir("state")?);
    show(&host, &guests)?;
    let agent = agent(&hypervisor, &state, &host, "Auto")?;
    agent.promised_mib(CROWD)?;
    let scans = ksm.number("full_scans")?;
    wait::until(SOON, "what is no guest's to be known", || {
        show(&host, &guests)?;
        compare(&agent, AT_REST)
    })?;
    // What is kept for growth is learnt from a host that is shown here a moment after it is read.
    let budget = || Ok::<_, anyhow::Error>(agent.ledger("budget")? + agent.ledger("non_guest_growth")?);
    let before = budget()?;
    let mut worst = Ok(());
    wait::until(SOON, "equal pages to be merged", || {
        show(&host, &guests)?;
        worst = std::mem::replace(&mut worst, Ok(())).and_then(|()| compare(&agent, AT_WORK));
        let saved = ksm.saved_mib()?;
        ensure!(saved >= MERGED_MIB, "{saved} MiB, {:?}, {:?}", told(&agent)?, ksm.knobs()?);
        Ok(())
    })
    .with_context(|| agent.process().log_tail())?;
    worst?;
    ensure!(ksm.number("full_scans")? > scans);
    // Sooner or later there is nothing left to merge, and it rests.
    wait::until(SOON, "ksmd to rest", || {
        show(&host, &guests)?;
        ensure!(ksm.knobs()?[0] == 0, "{:?}", told(&agent)?);
        Ok(())
    })?;
    ensure!(!told(&agent)?.1);
    let saved = ksm.saved_mib()?;
    ensure!(saved < MERGED_MIB + i64::from(FILLED), "{saved} MiB: what is random was merged too");
    wait::until(SOON, "what is merged to be told, and to be nobody else's", || {
        show(&host, &guests)?;
        let merged = i64::try_from(agent.ledger("merged")? / MIB)?;
        ensure!(
            merged.abs_diff(saved) <= 1 && told(&agent)?.0 != "KsmOff",
            "{merged} MiB, {:?}",
            told(&agent)?
        );
        compare(&agent, AT_REST)
    })?;
    let now = budget()?;
    ensure!(
        now.abs_diff(before) <= 24 * MIB,
        "{saved} MiB are merged, and the budget went from {before} to {now}"
    );
    agent.ask(&["release"])?;
    wait_knobs(&ksm, "the knobs to be as they were found", |knobs| knobs == found)?;
    ensure!(ksm.saved_mib()? > saved / 2, "what is merged stays merged");
    agent.interrupt()
}

#[test]
fn whoever_turns_the_kernels_advisor_on_has_the_knobs_from_then_on() -> Result<()> {
    let session = Session::shared()?;
    let ksm = Merging::take_over(session, PATIENCE)?;
    if ksm.read("advisor_mode").is_err() {
        eprintln!("this kernel has no advisor");
        return Ok(());
    }
    let found = ksm.knobs()?;
    let hypervisor = Hypervisor::start()?;
    let _guests = guests(&hypervisor, GUESTS)?;
    let (host, state) = (HostMemory::new(HOST)?, session.fresh_dir("state")?);
    let agent = agent(&hypervisor, &state, &host, "Auto")?;
    wait_knobs(&ksm, "ksmd to scan", |[run, pages, _]| run == 1 && pages != found[1])
        .with_context(|| agent.process().log_tail())?;
    ksm.write("advisor_mode", "scan-time")?;
    wait::until(SOON, "the agent to yield", || {
        let (code, _) = told(&agent)?;
        ensure!(code == "KsmAdvised", "{code}");
        Ok(())
    })?;
    wait_knobs(&ksm, "the others to be as they were found", |[run, _, sleep]| {
        [run, sleep] == [found[0], found[2]]
    })
    .with_context(|| agent.process().log_tail())?;
    ensure!(ksm.read("advisor_mode")? == "none [scan-time]", "what somebody else set is his");
    agent.interrupt()?;
    ensure!(ksm.read("advisor_mode")? == "none [scan-time]", "also at the end");
    Ok(())
}

#[test]
fn a_killed_agents_knobs_are_put_back_by_the_next_but_for_what_somebody_else_set() -> Result<()> {
    let session = Session::shared()?;
    let ksm = Merging::take_over(session, PATIENCE)?;
    ksm.write("pages_to_scan", "123")?;
    let found = ksm.knobs()?;
    let hypervisor = Hypervisor::start()?;
    let _guests = guests(&hypervisor, GUESTS)?;
    let host = HostMemory::new(HOST)?;
    for (somebody, policy, left) in
        [(None, "Off", found), (Some("77"), "Auto", [found[0], found[1], 77]), (None, "Auto", found)]
    {
        let state = session.fresh_dir("state")?;
        let first = agent(&hypervisor, &state, &host, "Auto")?;
        wait_knobs(&ksm, "ksmd to scan", |[run, pages, _]| run == 1 && pages != 123)
            .with_context(|| format!("{:?}, {}", told(&first), first.process().log_tail()))?;
        first.kill()?;
        ensure!(ksm.knobs()?[0] == 1, "nobody puts anything back");
        if let Some(sleep) = somebody {
            ksm.write("sleep_millisecs", sleep)?;
        }
        let next = agent(&hypervisor, &state, &host, policy)?;
        match (somebody, policy) {
            (None, "Auto") => {
                wait_knobs(&ksm, "ksmd to be told", |[run, ..]| run == 1)?;
                // An upgrade.
                next.terminate()?;
            }
            (Some(_), _) => {
                wait::until(SOON, "the agent to yield", || {
                    let (code, _) = told(&next)?;
                    let troubles = next.report()?.get("troubles").map(Value::to_string).unwrap_or_default();
                    ensure!(code == "KsmYielded" && troubles.contains("sleep_millisecs became 77"), "{code}");
                    Ok(())
                })?;
            }
            _ => {}
        }
        wait_knobs(&ksm, "the knobs to be as they were found", |knobs| knobs == left)
            .with_context(|| next.process().log_tail())?;
        ksm.write("sleep_millisecs", "20")?;
        drop(next);
    }
    Ok(())
}
