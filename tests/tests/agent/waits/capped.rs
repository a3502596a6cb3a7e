//! A guest that thrashes under its balloon, into a swap of its own: what it uses follows the cap, and is no measure of what it needs.

use anyhow::{Result, ensure};
use overcommit_core::units::Bytes;
use overcommit_tests::agent::{Bench, SOON};
use overcommit_tests::guests::{GuestSpec, Load};
use overcommit_tests::wait;

const SIZE: u64 = 384;
/// What the host lacks.
const SHORT: u64 = 150;
/// More than it holds once it is squeezed, and less than all of it; written over and over.
const NEEDS: u64 = 270;
/// It has read so much of it back from its swap, so that it thrashes.
const SWAPPED_KIB: u64 = 20 << 10;
/// It is given what it needs by this many statistics, those that are known when there is memory again among them.
const STATISTICS: usize = 3;

#[test]
fn a_guest_that_swaps_under_its_cap_is_given_all_within_three_statistics_once_there_is_memory() -> Result<()>
{
    let spec = GuestSpec::new("capped", SIZE).stats_period_s(10).swap_mib(1024);
    let bench = Bench::start(&spec, SHORT, &[])?;
    bench.wait_settled()?;
    bench.guest().begin(&Load::Paced { mib: NEEDS, ramp_mib_per_s: 20, pace_mib_per_s: 40 })?;
    wait::until(SOON, "it to thrash", || {
        let (view, swapped) = (bench.view()?, bench.guest().memory_stats()?.swap_in_kib);
        ensure!(view.actual < Bytes::from_mib(NEEDS), "{view:?}");
        ensure!(swapped.is_some_and(|kib| kib > SWAPPED_KIB), "{swapped:?} KiB swapped in: {view:?}");
        Ok(())
    })?;
    bench.relieve()?;
    bench.wait(SOON, "to be given all", |g| g.actual == Bytes::from_mib(SIZE))?;
    bench.guest().expect_unhurt()?;
    bench.agent().interrupt()?;
    let statistics = bench.statistics_until_given(SIZE)?;
    ensure!(statistics <= STATISTICS, "{statistics}");
    Ok(())
}
