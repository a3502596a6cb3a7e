//! What the agent reads of real guests from the host's kernel.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use overcommit_core::ports::{ProcessPort as _, Who};
use overcommit_core::sample::ProcessFacts;
use overcommit_core::units::Bytes;
use overcommit_host::{ProcessFactsReader, Root};
use overcommit_tests::guests::{Guest, GuestSpec, Hypervisor, Load};
use overcommit_tests::wait;

const SIZE: u64 = 384;
const SOON: Duration = Duration::from_mins(3);

/// The guest as the agent sees it, once its process is measured.
fn facts(guest: &Guest) -> Result<ProcessFacts> {
    let line = std::fs::read(format!("/proc/{}/cmdline", guest.qemu_pid()?))?;
    let words: Vec<String> =
        line.split(|b| *b == 0).map(|w| String::from_utf8_lossy(w).into_owned()).collect();
    let uuid = words.iter().skip_while(|w| *w != "-uuid").nth(1).context("no -uuid")?;
    let uuid = uuid.as_str().into();
    let who = Who { pod_uid: None, uuid, full: Bytes::from_mib(SIZE), pluggable: Vec::new() };
    let view = ProcessFactsReader::new(Root::default()).look(&who);
    ensure!(view.trouble.is_none(), "{:?}", view.trouble);
    Ok(view.facts)
}

#[test]
fn memory_of_a_guest_with_a_memfd_is_counted_as_the_guests() -> Result<()> {
    let spec = GuestSpec::new("memfd", SIZE).shared_memory().load(Load::Hold { mib: 160 });
    let guest = Hypervisor::shared()?.define_and_start(&spec)?;
    guest.wait_booted()?;
    let held = wait::until(SOON, "the guest's memory", || {
        let facts = facts(&guest)?;
        let anon = facts.anon.context("no anon")?;
        if anon > Bytes::from_mib(200) { Ok(facts) } else { Err(anyhow::anyhow!("{facts:?}")) }
    })?;
    let overhead = held.overhead.context("its memory was not found among its mappings")?;
    // With what its guest holds it would be 250 at least.
    ensure!(overhead < Bytes::from_mib(200), "{overhead} counts its memory as overhead");

    // What the balloon takes is the guest's no more.
    guest.begin(&Load::IDLE)?;
    guest.set_balloon_mib(120)?;
    wait::until(SOON, "the balloon to be the host's gain", || {
        let facts = facts(&guest)?;
        let anon = facts.anon.context("no anon")?;
        // Of the same look: an emulator comes to need more as it runs.
        let most = Bytes::from_mib(120).plus(facts.overhead.context("no overhead")?);
        if anon < most { Ok(()) } else { Err(anyhow::anyhow!("{anon} of {most}")) }
    })
}
