//! Equal pages of real guests, merged by the machine's own kernel, as the agent tells it to.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use overcommit_core::ports::{ProcessPort as _, Who};
use overcommit_core::units::Bytes;
use overcommit_host::{ProcessFactsReader, Root};
use overcommit_tests::agent::{Agent, HostMemory};
use overcommit_tests::guests::{Guest, GuestSpec, Hypervisor};
use overcommit_tests::machine::MIB;
use overcommit_tests::merging::Merging;
use overcommit_tests::session::Session;
use overcommit_tests::wait;
use serde_json::Value;

const SIZE: u64 = 256;
const GUESTS: u64 = 3;
/// What they are promised leaves less than a fifth of it, and is no more than it has.
const HOST: u64 = 1152;
/// Another test that uses it.
const PATIENCE: Duration = Duration::from_mins(10);
/// Tenants settle for 20 s, three passes, and a busy machine.
const SOON: Duration = Duration::from_mins(5);
/// Kernels and initial file systems alone are more, of each guest.
const MERGED_MIB: i64 = 30;

fn guests(hypervisor: &Hypervisor) -> Result<Vec<Guest>> {
    let start = |n| hypervisor.define_and_start(&GuestSpec::new(format!("twin-{n}"), SIZE));
    let guests = (0..GUESTS).map(start).collect::<Result<Vec<_>>>()?;
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

/// What the kernel counts as this process's own, and what the agent counts with, which has merged pages taken off.
fn counted(guest: &Guest) -> Result<(Bytes, Bytes)> {
    let pid = guest.qemu_pid()?;
    let line = std::fs::read(format!("/proc/{pid}/cmdline"))?;
    let words: Vec<String> =
        line.split(|b| *b == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let uuid = words.iter().skip_while(|word| *word != "-uuid").nth(1).context("no -uuid")?;
    let who =
        Who { pod_uid: None, uuid: uuid.as_str().into(), full: Bytes::from_mib(SIZE), pluggable: vec![] };
    let anon = ProcessFactsReader::new(Root::default()).look(&who).facts.anon.context("no anon")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().nth(1)?.parse().ok().map(Bytes::from_kib)
    };
    Ok((of("RssAnon").context("no RssAnon")?.plus(of("RssShmem").unwrap_or_default()), anon))
}

#[test]
fn equal_pages_are_merged_while_it_pays_and_are_no_budget_and_a_release_puts_the_knobs_back() -> Result<()> {
    let session = Session::shared()?;
    let ksm = Merging::take_over(session, PATIENCE)?;
    let found = ksm.knobs()?;
    let hypervisor = Hypervisor::start()?;
    let guests = guests(&hypervisor)?;
    let (host, state) = (HostMemory::new(HOST)?, session.fresh_dir("state")?);
    let agent = agent(&hypervisor, &state, &host, "Auto")?;
    agent.promised_mib(GUESTS)?;
    let (budget, scans) = (agent.ledger("budget")?, ksm.number("full_scans")?);
    wait::until(SOON, "equal pages to be merged", || {
        let saved = ksm.saved_mib()?;
        ensure!(saved >= MERGED_MIB, "{saved} MiB, {:?}, {:?}", told(&agent)?, ksm.knobs()?);
        Ok(())
    })
    .with_context(|| agent.process().log_tail())?;
    wait::until(SOON, "what is merged to be told", || {
        let merged = agent.ledger("merged")? / MIB;
        let least = u64::try_from(MERGED_MIB / 2)?;
        ensure!(merged >= least && told(&agent)?.0 != "KsmOff", "{merged} MiB, {:?}", told(&agent)?);
        Ok(())
    })?;
    ensure!(ksm.number("full_scans")? > scans);
    ensure!(agent.ledger("budget")? == budget, "what is merged is no budget");
    // It is no guest's twice either, or it would be missing among what is no guest's.
    wait::until(SOON, "the kernel's counts of merged pages to agree", || {
        let counted = guests.iter().map(counted).collect::<Result<Vec<_>>>()?;
        let off: u64 = counted.iter().map(|(own, anon)| own.minus(*anon).get() / MIB).sum();
        let page = i64::try_from(rustix::param::page_size())?;
        let sites = u64::try_from((ksm.number("pages_shared")? + ksm.number("pages_sharing")?) * page)? / MIB;
        ensure!(off.abs_diff(sites) <= 8, "{off} MiB are taken off, {sites} MiB are merged");
        Ok(())
    })?;
    // Sooner or later there is nothing left to merge, and it rests.
    wait_knobs(&ksm, "ksmd to rest", |[run, ..]| run == 0).with_context(|| format!("{:?}", told(&agent)))?;
    ensure!(!told(&agent)?.1);
    let saved = ksm.saved_mib()?;
    agent.ask(&["release"])?;
    wait_knobs(&ksm, "the knobs to be as they were found", |knobs| knobs == found)?;
    ensure!(ksm.saved_mib()? > saved / 2, "what is merged stays merged");
    agent.interrupt()
}

#[test]
fn a_killed_agents_knobs_are_put_back_by_the_next_but_for_what_somebody_else_set() -> Result<()> {
    let session = Session::shared()?;
    let ksm = Merging::take_over(session, PATIENCE)?;
    ksm.write("pages_to_scan", "123")?;
    let found = ksm.knobs()?;
    let hypervisor = Hypervisor::start()?;
    let _guests = guests(&hypervisor)?;
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
