//! A libvirt that takes a command and says nothing, on a real guest: whether the command took effect, or will, nobody knows.

use anyhow::{Context as _, Result, ensure};
use overcommit_core::conduct::Trust;
use overcommit_core::reason::Reason;
use overcommit_core::units::Bytes;
use overcommit_core::view::GuestView;
use overcommit_tests::agent::{Bench, SOON};
use overcommit_tests::guests::GuestSpec;
use overcommit_tests::wait;

const SIZE: u64 = 384;
/// What the host lacks for its guest: two takes of a tenth each.
const SHORT: u64 = 60;

#[test]
fn a_take_that_a_stopped_libvirtd_does_not_answer_is_told_and_its_target_set_again_once_it_does() -> Result<()>
{
    // It stops when it is about to send its first take, and libvirtd does while it is: the take is sent to a daemon that
    // answered a moment before.
    let further = ["--unattended", "--fail-at=before-takes=stop*1"];
    let bench = Bench::start(&GuestSpec::new("unheard", SIZE).stats_period_s(5), SHORT, &further)?;
    bench.agent().while_stopped(SOON, || bench.hypervisor().freeze_daemon())?;
    wait::until(SOON, "what nobody answered to be told", || {
        let told = bench.agent().troubles()?;
        ensure!(told.contains("may still take effect"), "{told}");
        Ok(())
    })
    .with_context(|| bench.agent().process().log_tail())?;
    // Nobody knows that it has less: it counts as having all.
    let told = bench.view()?;
    ensure!(told.target == told.full && told.charge >= told.full, "{told:?}");
    ensure!(told.trust == Trust::Trusted && told.failure.is_none(), "{told:?}");

    // The daemon carries the take out when it wakes, and what the guest is to have is set again after that.
    bench.relieve()?;
    bench.hypervisor().thaw_daemon()?;
    let whole = |g: &GuestView| g.reason == Reason::FullSize && g.actual == g.full && !g.blind;
    bench.wait(SOON, "to have its memory", whole)?;
    wait::until(SOON, "no more troubles", || {
        let told = bench.agent().troubles()?;
        ensure!(told == "[]", "{told}");
        Ok(())
    })?;
    // And it is taken from as if nothing had been.
    bench.squeeze()?;
    let told = bench.wait_settled()?;
    ensure!(told.actual.plus(Bytes::from_mib(SHORT / 2)) < told.full, "{told:?}");
    bench.expect_all_back(SIZE)
}
