//! What an agent learned of its node and of real guests, after it died.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use overcommit_tests::agent::{Account, Agent, HostMemory};
use overcommit_tests::guests::{GuestSpec, Hypervisor};
use overcommit_tests::machine::MIB;
use overcommit_tests::session::Session;
use overcommit_tests::wait;

const SIZE: u64 = 384;
const PLENTY: u64 = 16 * 1024;
/// What the host lacks for its guest.
const SHORT: u64 = 80;
/// So much memory comes at once that is no guest's, in MiB; up to the guest's size of it counts as the guest's.
const BURST: u64 = 1024;
const SQUEEZED_BY: Duration = Duration::from_mins(6);
const SOON: Duration = Duration::from_mins(3);
/// Nothing is known of balloons: two control periods.
const NOTHING_KNOWN: Duration = Duration::from_secs(4);

/// The account of its first turn: what it learned itself cannot be in there.
fn first_account(agent: &Agent) -> Result<Account> {
    wait::until(SOON, "its first turn to be printed", || {
        agent.turns().fresh()?.into_iter().next().context("none yet")?.ledger.context("no account")
    })
}

#[test]
fn what_was_learned_counts_from_the_first_turn_of_the_next_agent_and_a_torn_file_is_told_and_learned_anew()
-> Result<()> {
    let hypervisor = Hypervisor::start()?;
    let guest = hypervisor.define_and_start(&GuestSpec::new("learnt-of", SIZE))?;
    guest.wait_booted()?;
    let dir = Session::shared()?.fresh_dir("state")?;
    let host = HostMemory::new(PLENTY)?;
    // The largest growth that was seen is kept for the next.
    let policy = Agent::policy_reserving("{minimum: 0Mi, growthPercentile: 100}", "Enforce", "");
    let start = || Agent::start(hypervisor.uri(), &policy, &dir, &host);
    let account = |agent: &Agent| agent.told()?.ledger.context("no account");

    let agent = start()?;
    let promised = agent.promised_mib(1)?;
    host.set(promised - SHORT)?;
    wait::until(SQUEEZED_BY, "a balloon's time to follow to be known", || {
        let account = account(&agent)?;
        ensure!(account.shortfall.is_zero() && account.reaction != NOTHING_KNOWN, "{account:?}");
        Ok(())
    })?;
    host.set_holding(PLENTY, BURST * MIB)?;
    wait::until(SOON, "growth to be known", || {
        let account = account(&agent)?;
        ensure!(account.non_guest_growth.get() >= (BURST - SIZE) * MIB, "{account:?}");
        Ok(())
    })?;
    // It is written each five minutes, and at a hand-over.
    agent.terminate()?;
    let last = agent.turns().fresh()?.pop().context("no turn was printed")?;
    let learned = last.ledger.context("no account")?;

    start()?.kill()?;
    let agent = start()?;
    let now = first_account(&agent)?;
    ensure!(
        now.non_guest_growth == learned.non_guest_growth && now.reaction == learned.reaction,
        "{now:?} of {learned:?}"
    );
    agent.kill()?;

    let file = dir.join("learned");
    let whole = std::fs::read(&file)?;
    std::fs::write(&file, whole.get(..whole.len() / 2).context("an empty file")?)?;
    let agent = start()?;
    let said = agent.process().output();
    ensure!(
        said.contains("what was learned of this node cannot be read") && said.contains("learned.corrupt"),
        "{said}"
    );
    ensure!(dir.join("learned.corrupt").is_file(), "it is not set aside");
    let now = first_account(&agent)?;
    ensure!(now.non_guest_growth == 0 && now.reaction == NOTHING_KNOWN, "{now:?}");
    // And it works as one that begins.
    host.set(promised - SHORT)?;
    agent.wait_settled(SQUEEZED_BY, &host, guest.name())?;
    agent.terminate()?;
    ensure!(std::fs::metadata(&file)?.len() > 0, "what is learned anew is kept");
    guest.expect_unhurt()
}
