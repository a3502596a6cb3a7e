//! Two masters of one balloon: a real guest whose target somebody else keeps lowering.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use overcommit_core::reason::{Hold, Reason};
use overcommit_tests::agent::{Bench, SOON};
use overcommit_tests::guests::GuestSpec;
use overcommit_tests::wait;

const SIZE: u64 = 384;
/// What the host lacks for its guest.
const SHORT: u64 = 100;
/// By so much somebody else lowers what the agent left it: it does not hurt then.
const LESS: u64 = 24;
/// As often as MOM would, which decides each 10 s, and a bit more often.
const PACE: Duration = Duration::from_secs(5);

#[test]
fn somebody_who_keeps_lowering_a_balloon_is_told_of_and_yielded_to() -> Result<()> {
    let bench = Bench::start(&GuestSpec::new("contested", SIZE).stats_period_s(5), SHORT, &[])?;
    let left = bench.wait_at_peace()?.target.to_mib_floor();
    let mut said = String::new();
    wait::until_paced(SOON, PACE, "the agent to say so", || {
        bench.guest().set_balloon_mib(left - LESS)?;
        said = bench.explained()?;
        let troubles = bench.agent().troubles()?;
        let view = bench.view()?;
        ensure!(said.contains("another controller") && troubles.contains("another controller"), "{said}");
        ensure!(view.reason == Reason::Held(Hold::BalloonMoves), "{view:?}");
        ensure!(view.contested.is_some_and(|contested| contested.times >= 3), "{view:?}");
        Ok(())
    })
    .with_context(|| format!("{said}\n{}", bench.agent().process().log_tail()))?;
    // The other goes, and all that was taken comes back as always.
    bench.relieve()?;
    bench.agent().interrupt()?;
    wait::until(SOON, "its full size", || bench.holds_mib().is_ok_and(|mib| mib == SIZE))?;
    bench.guest().expect_unhurt()?;
    bench.expect_replayed()
}
