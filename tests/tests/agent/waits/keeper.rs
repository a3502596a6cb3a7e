//! What becomes of guests when the agent's loop dies, hangs, panics or loses the process that looks after it: real guests
//! under libvirt, and the agent as people start it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use overcommit_core::units::Bytes;
use overcommit_tests::agent::{Agent, Bench, HostMemory, SOON};
use overcommit_tests::guests::{GuestSpec, Hypervisor, Load};
use overcommit_tests::session::Session;
use overcommit_tests::wait;
use rustix::process::Signal;

const SIZE: u64 = 384;
/// A host on which the guest fits whole, and that would have less than a fifth free then: merging is worth something.
const SCARCE: u64 = 560;
/// What the host lacks when guests are to be squeezed.
const SHORT: u64 = 150;
/// Boot grace, then a take per statistics; on a busy machine a take is undone and tried again later.
const SQUEEZED_BY: Duration = Duration::from_mins(6);
/// A load that the guest has no room for once it is squeezed, and outgrows what it holds only after most of a minute: a successor
/// must have come by then, also on a busy machine.
const GROWS: Load = Load::Paced { mib: 230, ramp_mib_per_s: 4, pace_mib_per_s: PACE };
/// The same that takes two minutes, in which many agents come and die, and what is left of it once the guest was helped.
const GROWS_SLOWLY: Load = Load::Paced { mib: 230, ramp_mib_per_s: 2, pace_mib_per_s: PACE };
const GROWS_ON: Load = Load::Paced { mib: 230, ramp_mib_per_s: 20, pace_mib_per_s: PACE };
/// What each of them writes anew per second: it works on, and leaves time for the guests of other tests.
const PACE: u64 = 20;

/// A guest that an agent with these further arguments has squeezed.
fn squeezed(further: &[&str]) -> Result<Bench> {
    let bench = Bench::start(&GuestSpec::new("kept", SIZE).stats_period_s(10), SHORT, further)?;
    wait_squeezed(&bench)?;
    Ok(bench)
}

fn wait_squeezed(bench: &Bench) -> Result<()> {
    bench.wait(SQUEEZED_BY, "to be squeezed", |g| g.actual < Bytes::from_mib(SIZE - 100)).map(drop)
}

fn wait_helped(bench: &Bench) -> Result<()> {
    bench.wait(SOON, "to be helped", |g| g.actual > Bytes::from_mib(SIZE - 20)).map(drop)
}

fn wait_trouble(bench: &Bench, words: &str) -> Result<()> {
    wait::until(SOON, format!("the trouble {words:?}"), || {
        let told = bench.agent().troubles()?;
        ensure!(told.contains(words), "{told}");
        Ok(())
    })
    .with_context(|| bench.agent().process().log_tail())
}

/// What a guest at peace holds that an agent left squeezed as it was killed.
fn left_squeezed() -> Result<(Bench, u64)> {
    let bench = squeezed(&[])?;
    // Nothing more is under way when the agent dies, whatever wanders.
    bench.wait_at_peace()?;
    bench.agent().kill()?;
    let holds = bench.holds_mib()?;
    Ok((bench, holds))
}

/// Memory is there again: everything comes back, with the period that the guest had.
fn expect_all_back(bench: &Bench) -> Result<()> {
    bench.relieve()?;
    bench.agent().interrupt()?;
    expect_full(bench)?;
    bench.expect_nobody_owed()?;
    // Whatever was done to the agents in between.
    bench.expect_replayed()
}

fn expect_full(bench: &Bench) -> Result<()> {
    wait::until(SOON, "the guest to have what it had, and its period", || {
        let (holds, period) = (bench.holds_mib()?, bench.guest().stats_period_s()?);
        ensure!(holds == SIZE && period == Some(10), "{holds} MiB, {period:?} s");
        Ok(())
    })
    .with_context(|| bench.agent().process().log_tail())
}

/// The guest uses all that it wanted, which is more than it held, and was not hurt.
fn expect_outgrown(bench: &Bench) -> Result<()> {
    bench.guest().wait_console(SOON, "held=230MiB")?;
    bench.guest().expect_unhurt()
}

#[test]
fn a_loop_that_hangs_is_ended_and_its_successor_helps_the_guest_that_grows() -> Result<()> {
    let bench = squeezed(&[])?;
    let first = bench.agent().loop_pid()?;
    bench.agent().signal_loop(Signal::STOP)?;
    bench.relieve()?;
    bench.guest().begin(&GROWS)?;
    wait_helped(&bench)?;
    ensure!(bench.agent().loop_pid()? != first, "another loop");
    wait_trouble(&bench, "the former one failed: it has not turned for")?;
    expect_outgrown(&bench)?;
    expect_all_back(&bench)
}

#[test]
fn a_loop_that_is_killed_while_its_guest_grows_leaves_nobody_hurt() -> Result<()> {
    let bench = squeezed(&[])?;
    bench.relieve()?;
    bench.guest().begin(&GROWS)?;
    for _ in 0..2 {
        let before = bench.agent().loop_pid()?;
        bench.agent().signal_loop(Signal::KILL)?;
        wait::until(SOON, "another loop", || bench.agent().loop_pid().is_ok_and(|now| now != before))?;
    }
    wait_helped(&bench)?;
    wait_trouble(&bench, "the former one failed: it was ended by signal 9, by somebody or by the kernel")?;
    expect_outgrown(&bench)?;
    expect_all_back(&bench)
}

#[test]
fn a_loop_that_keeps_dying_hands_its_guests_over_and_rests() -> Result<()> {
    let bench = squeezed(&[])?;
    for _ in 0..2 {
        let before = bench.agent().loop_pid()?;
        bench.agent().signal_loop(Signal::KILL)?;
        wait::until(SOON, "another loop", || bench.agent().loop_pid().is_ok_and(|now| now != before))?;
    }
    // The third is one too many: what hands over sees a host that has memory again.
    bench.relieve()?;
    bench.agent().signal_loop(Signal::KILL)?;
    wait::until(SOON, "its rest", || bench.agent().process().output().contains("it handed over and rests"))
        .with_context(|| bench.agent().process().log_tail())?;
    ensure!(bench.agent().loop_pid().is_err(), "it rests");
    // Nobody turns, and the guest has what there was to spare.
    wait::until(SOON, "the guest to hold what was spare", || {
        let holds = bench.holds_mib()?;
        ensure!(holds > SIZE - 20, "{holds} MiB");
        Ok(())
    })?;
    bench.agent().terminate()
}

#[test]
fn a_release_says_how_far_it_is_and_a_second_interrupt_cuts_nothing_short() -> Result<()> {
    let bench = squeezed(&[])?;
    let process = bench.agent().process();
    let says = |words: &str| {
        wait::until(SOON, format!("the words {words:?}"), || process.output().contains(words))
            .with_context(|| process.log_tail())
    };
    // The node lacks what is to be given back, whatever it keeps for itself otherwise.
    bench.host().set(SIZE)?;
    process.signal(Signal::INT)?;
    says("giving back: the node lacks")?;
    process.signal(Signal::INT)?;
    says("nothing is cut short")?;
    bench.relieve()?;
    let ended = process.wait(SOON)?;
    ensure!(ended.success(), "{ended}: {}", process.log_tail());
    expect_full(&bench)
}

#[test]
fn a_loop_whose_keeper_is_gone_hands_over_and_ends() -> Result<()> {
    let mut bench = squeezed(&[])?;
    bench.agent().process().signal(Signal::KILL)?;
    wait::until(SOON, "the end of the loop", || bench.agent().pids().is_empty())?;
    let said = bench.agent().process().output();
    ensure!(said.contains("is gone") && said.contains("handed over"), "{said}");
    bench.start_agent(&[])?;
    expect_all_back(&bench)
}

#[test]
fn no_panic_stops_the_loop_whatever_step_it_is_in() -> Result<()> {
    let points = "asked=panic*9,sampled=panic*14,adopted=panic*20,decided=panic*26,acted=panic*32,heard=panic*2,\
                  published=panic*40,gives-sent=panic*1,journal-asked=panic*1,before-takes=panic*2,takes-sent=panic*1";
    let bench = squeezed(&[&format!("--fail-at={points},file-half-written=panic*3")])?;
    let first = bench.agent().loop_pid()?;
    let mut met = Vec::new();
    wait::until(SQUEEZED_BY, "each point to be met", || {
        let said = bench.agent().process().output();
        let names = points.split(',').filter_map(|order| order.split('=').next());
        met = names.filter(|name| !said.contains(&format!("ordered at {name}"))).map(str::to_owned).collect();
        // Takes and gives have to come for some.
        let is_squeezed = bench.view()?.target < Bytes::from_mib(SIZE - 60);
        if is_squeezed { bench.relieve() } else { bench.squeeze() }?;
        ensure!(met.is_empty(), "not met: {met:?}");
        Ok(())
    })
    .with_context(|| bench.agent().process().log_tail())?;
    wait_trouble(&bench, "failed inside")?;
    ensure!(bench.agent().loop_pid()? == first, "the same process");
    bench.squeeze()?;
    wait_squeezed(&bench)?;
    expect_all_back(&bench)
}

#[test]
fn where_every_decision_panics_what_was_taken_is_given_back_without_one() -> Result<()> {
    let mut bench = squeezed(&[])?;
    bench.agent().kill()?;
    bench.relieve()?;
    // The first report is that of a turn that went well.
    bench.start_agent(&["--unattended", "--fail-at=decided=panic*2+"])?;
    wait::until(SOON, "the guest to have its memory back", || {
        let holds = bench.holds_mib()?;
        ensure!(holds == SIZE, "{holds} MiB");
        Ok(())
    })
    .with_context(|| bench.agent().process().log_tail())?;
    wait_trouble(&bench, "decisions fail inside")
}

/// Points at which the agent is killed, and at which passage: what each turn passes only after the first report was seen.
const POINTS: [&str; 12] = [
    "asked=kill*6",
    "sampled=kill*6",
    "adopted=kill*6",
    "decided=kill*6",
    "acted=kill*6",
    "published=kill*6",
    "journal-asked=kill*1",
    "file-half-written=kill*2",
    "file-replaced=kill*2",
    "before-takes=kill*1",
    "takes-sent=kill*1",
    // The first answer is the one to the target that was set again after the start.
    "heard=kill*2",
];

/// The same while a guest grows that is to be given something: what the first turns pass. Whoever dies there may have given it
/// or not, and the next one must not wait to find out.
const POINTS_OF_A_SURGE: [&str; 8] = [
    "asked=kill*1",
    "sampled=kill*1",
    "adopted=kill*1",
    "decided=kill*1",
    "gives-sent=kill*1",
    "acted=kill*1",
    "heard=kill*1",
    "published=kill*1",
];
/// By so much the host is less short each time, in MiB: less than it lacks all in all, and worth giving.
const LESS_SHORT: u64 = 12;

#[test]
fn killed_at_any_step_of_the_cycle_nothing_is_forgotten() -> Result<()> {
    let mut bench = squeezed(&[])?;
    for point in POINTS {
        expect_all_back(&bench)?;
        bench.start_agent(&["--unattended", &format!("--fail-at={point}")])?;
        bench.squeeze()?;
        wait::until(SQUEEZED_BY, format!("its death at {point}"), || bench.agent().pids().is_empty())
            .with_context(|| bench.agent().process().log_tail())?;
        // What it had before is known to the next: it gives all of that back, at the end or for the next point.
        bench.start_agent(&[])?;
        bench.guest().expect_unhurt().context(point)?;
    }
    expect_all_back(&bench)
}

#[test]
fn killed_at_any_step_of_the_cycle_while_its_guest_grows_the_next_one_helps() -> Result<()> {
    let (mut bench, squeezed) = left_squeezed()?;
    bench.guest().begin(&GROWS_SLOWLY)?;
    for point in POINTS_OF_A_SURGE {
        bench.host().set(bench.host().get()? + LESS_SHORT)?;
        bench.start_agent_to_die(&["--unattended", &format!("--fail-at={point}")]).context(point)?;
    }
    let held = bench.holds_mib()?;
    // Who died just after a give was decided may have taken it along.
    ensure!(held >= squeezed && held < SIZE - 20, "{squeezed} became {held} MiB");
    bench.relieve()?;
    bench.start_agent(&[])?;
    wait_helped(&bench)?;
    bench.guest().begin(&GROWS_ON)?;
    expect_outgrown(&bench)?;
    expect_all_back(&bench)
}

#[test]
fn what_somebody_else_set_while_no_agent_ran_is_not_overwritten() -> Result<()> {
    let (mut bench, left) = left_squeezed()?;
    // Less than what is handed out as slack, and nothing that the journal could take for its own.
    let other = left.min(bench.journalled_mib()?) - 10;
    bench.guest().set_balloon_mib(other)?;
    wait::until(SOON, "the other's size", || bench.holds_mib().is_ok_and(|holds| holds == other))?;
    // Nothing is to be taken, whatever wandered since.
    bench.host().set(bench.host().get()? + 4)?;
    bench.start_agent(&[])?;
    wait::until(SOON, "the agent to notice", || bench.agent().process().output().contains("somebody else"))
        .with_context(|| bench.agent().process().log_tail())?;
    // What it does then it has decided on what the guest holds; nothing was set by what the journal said.
    let said = bench.agent().process().output();
    let (noticed, set) = (said.find("somebody else"), said.find(" balloon guest="));
    ensure!(
        set.is_none_or(|set| noticed.is_some_and(|noticed| noticed < set)),
        "set before it noticed: {said}"
    );
    expect_all_back(&bench)
}

/// By a release the journal forgets it; after a hand-over it knows that it was seen to have all.
#[test]
fn what_somebody_else_set_after_all_was_given_back_stays() -> Result<()> {
    let mut bench = squeezed(&[])?;
    for released in [true, false] {
        bench.relieve()?;
        if released {
            bench.agent().interrupt()?;
        } else {
            bench.wait(SOON, "to have all", |g| g.target == g.full && g.actual == g.full)?;
            bench.wait_written_whole()?;
            bench.agent().terminate()?;
        }
        expect_full(&bench)?;
        let other = SIZE - 84;
        bench.guest().set_balloon_mib(other)?;
        wait::until(SOON, "the other's size", || bench.holds_mib().is_ok_and(|holds| holds == other))?;
        bench.start_agent(&[])?;
        bench.wait(SOON, "to be its owner's", |g| g.left == Some(Bytes::from_mib(other)))?;
        bench.agent().interrupt()?;
        let holds = bench.holds_mib()?;
        ensure!(holds == other, "{holds} MiB: {}", bench.agent().process().log_tail());
        if released {
            bench.guest().set_balloon_mib(SIZE)?;
            bench.squeeze()?;
            bench.start_agent(&[])?;
            bench.wait_take()?;
        }
    }
    Ok(())
}

/// A process that was restored from a file has the balloon that it was saved with.
#[test]
fn who_is_saved_while_squeezed_and_no_agent_runs_gets_back_what_it_had_once_it_is_restored() -> Result<()> {
    let (mut bench, left) = left_squeezed()?;
    let file = Session::shared()?.fresh_dir("saved")?.join("guest");
    bench.guest().save(&file)?;
    bench.guest().restore(&file)?;
    wait::until(SOON, "the balloon", || bench.holds_mib().is_ok_and(|holds| holds == left))?;
    bench.start_agent(&[])?;
    bench.wait(SOON, "to be owed what it had", |g| g.left.is_none() && g.target < g.full)?;
    expect_all_back(&bench)
}

#[test]
fn who_is_saved_and_restored_while_the_agent_runs_gets_back_what_it_had_also_at_once() -> Result<()> {
    let bench = squeezed(&[])?;
    let file = Session::shared()?.fresh_dir("saved")?.join("guest");
    let save_and_restore = |bench: &Bench| {
        bench.wait_at_peace()?;
        bench.guest().save(&file)?;
        bench.guest().restore(&file)
    };
    save_and_restore(&bench)?;
    wait::until(SOON, "it to be known", || {
        bench.agent().process().output().contains("restored with the balloon")
    })?;
    save_and_restore(&bench)?;
    expect_all_back(&bench)
}

#[test]
fn killed_while_it_turns_the_kernels_knobs_the_next_one_puts_them_back() -> Result<()> {
    let hypervisor = Hypervisor::start()?;
    let guest = hypervisor.define_and_start(&GuestSpec::new("merges", SIZE))?;
    guest.wait_booted()?;
    let (dir, host) = (Session::shared()?.fresh_dir("state")?, HostMemory::new(SCARCE)?);
    host.show_knobs()?;
    let policy = Agent::policy("Enforce", "  ksm: {mode: Auto}\n");
    for point in ["before-knobs=kill*1", "knobs-sent=kill*1"] {
        let order = ["--unattended", &format!("--fail-at={point}")];
        Agent::start_to_die(SQUEEZED_BY, hypervisor.uri(), &policy, &dir, &host, &order).context(point)?;
        let left = host.turned_knobs()?;
        ensure!(!point.starts_with("before") || left.is_empty(), "written before {point}: {left:?}");
        host.settle_knobs()?;
        let agent = Agent::start(hypervisor.uri(), &policy, &dir, &host)?;
        agent.interrupt()?;
        let left = host.turned_knobs()?;
        ensure!(left.is_empty(), "after {point}: {left:?}");
    }
    guest.expect_unhurt()
}
