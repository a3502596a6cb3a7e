//! What a program sees here is what MOM's own collectors see of the same host and guests, by the same names and in the same
//! units.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use overcommit_tests::guests::Hypervisor;
use overcommit_tests::mom::Collectors;
use overcommit_tests::wait;
use serde_json::{Map, Value};

use super::stage::Stage;

/// How far two looks at one field may be apart.
#[derive(Clone, Copy)]
enum Near {
    Exactly,
    /// In the field's own unit.
    By(u64),
    /// Not at all by the same rule, on purpose: docs/mom.md says how.
    Otherwise,
}

/// Two looks are up to some seconds apart, and others use the machine.
const HOST_KIB: Near = Near::By(300 << 10);
const GUEST_KIB: Near = Near::By(8 << 10);
const GUEST_PAGES: Near = Near::By(8 << 8);

const HOST: [(&str, Near); 25] = [
    ("mem_available", Near::Exactly),
    ("mem_unused", HOST_KIB),
    ("mem_free", HOST_KIB),
    ("anon_pages", HOST_KIB),
    ("swap_total", Near::Exactly),
    ("swap_usage", HOST_KIB),
    ("swap_in", Near::By(1000)),
    ("swap_out", Near::By(1000)),
    ("ksm_run", Near::Exactly),
    ("ksm_pages_to_scan", Near::Exactly),
    ("ksm_sleep_millisecs", Near::Exactly),
    ("ksm_pages_shared", Near::Exactly),
    ("ksm_pages_sharing", Near::Exactly),
    ("ksm_pages_unshared", Near::Exactly),
    ("ksm_pages_volatile", Near::Exactly),
    ("ksm_full_scans", Near::Exactly),
    ("ksm_shareable", Near::Otherwise),
    ("ksmd_cpu_usage", Near::By(20)),
    ("cpu_count", Near::Exactly),
    ("time_year", Near::Exactly),
    ("time_month", Near::Exactly),
    ("time_day", Near::Exactly),
    ("time_hour", Near::Exactly),
    ("time_minute", Near::By(1)),
    ("time_second", Near::Otherwise),
];
/// A kernel without NUMA has none, of which MOM says nil; a program sees 1 here.
const HOST_NIL: [&str; 1] = ["ksm_merge_across_nodes"];
const GUEST: [(&str, Near); 13] = [
    ("mem_available", Near::Exactly),
    ("mem_unused", GUEST_KIB),
    ("swap_in", Near::Exactly),
    ("swap_out", Near::Exactly),
    ("major_fault", Near::By(100)),
    ("minor_fault", Near::By(20_000)),
    ("balloon_cur", Near::Exactly),
    ("balloon_max", Near::Exactly),
    // MOM's is libvirt's `min_guarantee`; ours is the floor that is kept in any case.
    ("balloon_min", Near::Otherwise),
    ("rss", GUEST_PAGES),
    // Since the last look, and each looks when it wants.
    ("host_major_faults", Near::By(100)),
    ("host_minor_faults", Near::By(20_000)),
    ("vcpu_count", Near::Exactly),
];
const GUEST_NIL: [&str; 2] = ["swap_total", "swap_usage"];
const SOON: Duration = Duration::from_mins(2);

#[test]
fn a_program_sees_of_the_host_and_of_real_guests_what_moms_own_collectors_see() -> Result<()> {
    // It changes nothing that both look at.
    let stage = Stage::set("Observe", "Host.mem_free", "")?;
    let mut collectors = Collectors::start(Hypervisor::shared()?.uri())?;
    wait::until(SOON, "both to see the same", || {
        let saw = stage.saw()?;
        let (ours, moms): (Value, Value) = (serde_json::from_str(saw.input.get())?, collectors.collect()?);
        let host = ours.get("host").context("no host")?;
        expect_alike("the host", &HOST, &HOST_NIL, last(host)?, moms.get("host"))?;
        let guests = ours.get("guests").and_then(Value::as_array).context("no guests")?;
        ensure!(guests.len() == stage.guests.len(), "{} guests", guests.len());
        for guest in guests {
            let name = guest.get("name").and_then(Value::as_str).context("no name")?;
            let theirs = moms.get("guests").and_then(|guests| guests.get(name));
            expect_alike(name, &GUEST, &GUEST_NIL, last(guest)?, theirs)?;
        }
        Ok::<_, anyhow::Error>(())
    })
}

/// The last sample.
fn last(subject: &Value) -> Result<&Map<String, Value>> {
    let samples = subject.get("history").and_then(Value::as_array).context("no history")?;
    samples.last().and_then(Value::as_object).context("no sample")
}

fn expect_alike(
    whose: &str,
    fields: &[(&str, Near)],
    nil: &[&str],
    ours: &Map<String, Value>,
    moms: Option<&Value>,
) -> Result<()> {
    let moms = moms.and_then(Value::as_object).with_context(|| format!("MOM sees nothing of {whose}"))?;
    let known: BTreeSet<&str> = fields.iter().map(|(name, _)| *name).chain(nil.iter().copied()).collect();
    let missed = moms.keys().find(|name| !known.contains(name.as_str()) && *name != "time_microsecond");
    ensure!(missed.is_none(), "{whose}: MOM has {missed:?} as well");
    for (name, near) in fields {
        let number = |of: &Map<String, Value>| of.get(*name).and_then(Value::as_u64);
        let (our, mom) = (number(ours), number(moms));
        let (our, mom) =
            our.zip(mom).with_context(|| format!("{whose}: {name} is {our:?} here, {mom:?} there"))?;
        let near = match near {
            Near::Exactly => our == mom,
            Near::By(apart) => our.abs_diff(mom) <= *apart,
            Near::Otherwise => true,
        };
        ensure!(near, "{whose}: {name} is {our} here, {mom} there");
    }
    Ok(())
}
