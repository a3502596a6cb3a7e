//! The fast lane of an agent whose API server is slow: in a cluster, with real guests in pods of their own. The API server is
//! stopped and let run in turns, so that whoever asks it waits for seconds, and no connection breaks.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use overcommit_core::eligibility::BOOT_GRACE;
use overcommit_crds::OvercommitPolicySpec;
use overcommit_crds::policy::Mode;
use overcommit_crds::quantity::SizeOrPercent;
use overcommit_tests::agent::{Agent, HostMemory, NODE, OrderedNode, entry};
use overcommit_tests::api::Api;
use overcommit_tests::guests::{Guest, GuestSpec, Load};
use overcommit_tests::launcher::Launcher;
use overcommit_tests::parts::say;
use overcommit_tests::session::Session;

use crate::guests::{PLENTY, SIZE, squeeze};
use crate::lane::{Seen, losses, pains, pause, statistics};
use crate::spread::Spread;
use overcommit_tests::cost::released;

/// Guests, and as many with swap, whose pain shows on the host.
const GUESTS: usize = 4;
/// Fewer than of a full node: each of these guests gives a step once per statistics, and after so many nobody has one left.
const LOSSES: usize = 8;
/// The API server stands still and runs for so long, in turns.
const STOPPED: Duration = Duration::from_secs(5);
const RUNS: Duration = Duration::from_secs(1);
/// Between two questions that show how slow it is.
const ASKED_EACH: Duration = Duration::from_millis(700);

/// With the API server as it is, and slow.
pub(crate) fn measure() -> Result<String> {
    say("measure: guests in pods, and an API server");
    let node = OrderedNode::start()?;
    let launchers = (0..2 * GUESTS).map(launcher).collect::<Result<Vec<_>>>()?;
    let guests: Vec<&Guest> = launchers.iter().map(|launcher| &launcher.guest).collect();
    let begun = Instant::now();
    guests.iter().try_for_each(|guest| guest.wait_booted())?;
    pause(BOOT_GRACE.saturating_sub(begun.elapsed()))?;
    let entries: Vec<_> = (0..2 * GUESTS).map(|n| entry(&name(n), &pod(n))).collect();
    node.order(&policy(), &entries)?;
    let (dir, host) = (Session::shared()?.fresh_dir("state")?, HostMemory::new(PLENTY)?);
    let program = released("overcommit-agent")?;
    // Each condition has an agent of its own: what one learned of the guests is no part of the next.
    let squeezing = || -> Result<Agent> {
        host.set(PLENTY)?;
        let agent = Agent::start_program_on_node(&program, node.kubeconfig(), &dir, &host, &[])?;
        // Pods are found one after the other.
        agent.promised_mib(u64::try_from(guests.len())?)?;
        squeeze(&host, &agent)?;
        Ok(agent)
    };
    let trial = |agent: &Agent, condition: &'static str| -> Result<Seen> {
        say(&format!("measure: the fast lane: {condition}"));
        let (watched, swapping) = guests.split_at(GUESTS);
        let (guest, uri) =
            (watched.first().context("no guest")?, launchers.first().context("no guest")?.uri());
        let statistics = statistics(guest, uri, agent).context("statistics")?;
        let pains = Some(pains(&host, agent, swapping).context("pain")?);
        let losses = Some(losses(&host, agent, LOSSES).context("losses")?);
        let seen = Seen { condition, statistics, losses, pains };
        // A later trial may fail: what is known is told at once.
        say(seen.row().trim_end());
        Ok(seen)
    };
    let agent = squeezing()?;
    let before = version(&node.api)?;
    let slowly = || slowly(&node.api, || trial(&agent, "an API server that answers after seconds"));
    let (slow, slow_answers) = asking(&node.api, slowly)?;
    // It wrote its status all the same, so it waited for the API server.
    ensure!(version(&node.api)? != before, "the agent had nothing to do with its API server");
    release(&host, &agent, &guests)?;

    let agent = squeezing()?;
    let (prompt, answers) = asking(&node.api, || trial(&agent, "an API server that answers at once"))?;
    release(&host, &agent, &guests)?;
    Ok(format!("{HEAD}{}{}", row(&prompt, &answers), row(&slow, &slow_answers)))
}

const HEAD: &str = "## The fast lane beside a slow API server

As above, of an agent in a cluster with eight guests in pods of their own. The API server is stopped for 5 s of each 6 s in the second
row; its own answers, to a question that needs nothing stored, are in the last column.

| condition | loss | statistics | pain | given | samples | API server's answers, s |
| --- | --- | --- | --- | --- | --- | --- |
";

fn row(seen: &Seen, answers: &Spread) -> String {
    let told = [50, 99, 100].map(|p| format!("{:.1}", answers.percentile(p))).join(" / ");
    format!("{} {told} |\n", seen.row().trim_end())
}

fn name(number: usize) -> String {
    format!("guest-{number:02}")
}

fn pod(number: usize) -> String {
    format!("0b1d1c52-6a07-4c0e-8f6e-1a2b3c4d6e{number:02}")
}

fn launcher(number: usize) -> Result<Launcher> {
    let spec = GuestSpec::new(name(number), SIZE);
    Launcher::start(&pod(number), &if number < GUESTS { spec } else { spec.swap_mib(256) })
}

/// That of the other conditions.
fn policy() -> OvercommitPolicySpec {
    let mut policy = OvercommitPolicySpec { mode: Mode::Enforce, ..OvercommitPolicySpec::default() };
    policy.reserve.minimum = SizeOrPercent("0".to_owned());
    policy.reserve.growth_percentile = 50;
    policy
}

/// Ends the agent, which gives all back; for that its host needs the memory.
fn release(host: &HostMemory, agent: &Agent, guests: &[&Guest]) -> Result<()> {
    guests.iter().try_for_each(|guest| guest.begin(&Load::IDLE))?;
    host.set(PLENTY)?;
    agent.interrupt()
}

/// By how the node's object changes, it is seen that somebody writes it.
fn version(api: &Api) -> Result<String> {
    api.field("", &format!("noc/{NODE}"), "{.metadata.resourceVersion}")
}

/// Does something while the API server is slow.
fn slowly<T>(api: &Api, something: impl FnOnce() -> Result<T>) -> Result<T> {
    beside(|ended| slow_down(api, ended), something).map(|(seen, ())| seen)
}

fn slow_down(api: &Api, ended: &Receiver<()>) -> Result<()> {
    while goes_on(ended, RUNS) {
        api.pause_apiserver()?;
        let goes_on = goes_on(ended, STOPPED);
        api.resume_apiserver()?;
        if !goes_on {
            break;
        }
    }
    Ok(())
}

/// Does something, and asks the API server meanwhile; the seconds until it answered, too.
fn asking<T>(api: &Api, something: impl FnOnce() -> Result<T>) -> Result<(T, Spread)> {
    let ask = |ended: &Receiver<()>| {
        let mut answers = Vec::new();
        while goes_on(ended, ASKED_EACH) {
            let asked = Instant::now();
            api.kubectl(&["get", "--raw=/livez/ping"])?;
            answers.push(asked.elapsed().as_secs_f64());
        }
        Ok(Spread::of(answers))
    };
    beside(ask, something)
}

/// Does something while another thread does something else, until it is told to end.
fn beside<T, U: Send>(
    other: impl FnOnce(&Receiver<()>) -> Result<U> + Send,
    something: impl FnOnce() -> Result<T>,
) -> Result<(T, U)> {
    thread::scope(|scope| {
        let (end, ended) = channel();
        let other = scope.spawn(move || other(&ended));
        let seen = something();
        drop(end);
        let other = other.join().map_err(|_| anyhow!("a thread beside the measurement panicked"))?;
        Ok((seen?, other?))
    })
}

/// After that time: whether it has not been told to end.
fn goes_on(ended: &Receiver<()>, time: Duration) -> bool {
    ended.recv_timeout(time) == Err(RecvTimeoutError::Timeout)
}
