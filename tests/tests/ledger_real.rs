//! The account against the kernel's own counts, on real guests: of several sizes, with page cache, busy, with a disk, and
//! with memory that QEMU shares; full, and squeezed.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use overcommit_core::ledger::Ledger;
use overcommit_core::units::Bytes;
use overcommit_core::view::GuestView;
use overcommit_tests::agent::{Agent, HostMemory};
use overcommit_tests::guests::{Guest, GuestSpec, Hypervisor, Load};
use overcommit_tests::kernel_counts::{QemuMemory, free_in_lists};
use overcommit_tests::machine::{self, MIB};
use overcommit_tests::session::Session;
use overcommit_tests::wait;

/// The agent reads a moment before or after the test does, and a guest that works writes some MiB in between.
const MOMENT: u64 = 8 * MIB;
/// Overheads are measured a minute apart, and an emulated guest's translated code grows as it meets new work.
const OVERHEAD: u64 = 8 * MIB;
/// Until every overhead was measured again after the guests came to rest.
const MEASURED_AGAIN: Duration = Duration::from_mins(6);
const SOON: Duration = Duration::from_mins(3);
/// Boot grace is over: a take per statistics and at most a tenth each; on a busy machine a take is undone and tried again later.
const SQUEEZED_BY: Duration = Duration::from_mins(6);
/// What the host of the one that takes lacks, in MiB: what none of its guests could pay alone.
const SHORT: u64 = 250;
/// A host on which everything fits.
const PLENTY: u64 = 16 * 1024;
/// What a guest leaves usable when it touches all that it may: its kernel kills before the last page is gone.
const SPARE: u64 = 12;

/// Four guests and an agent that only watches them. The tests of this file use it one after the other.
struct Bench {
    agent: Agent,
    guests: Vec<Guest>,
}

fn bench<T>(with: impl FnOnce(&Bench) -> Result<T>) -> Result<T> {
    static SHARED: Mutex<Option<Bench>> = Mutex::new(None);
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if shared.is_none() {
        *shared = Some(Bench::start()?);
    }
    with(shared.as_ref().context("no bench")?)
}

/// What they are, and what they do until they are told otherwise.
fn specs() -> [(GuestSpec, Load); 4] {
    [
        (GuestSpec::new("small", 192), Load::IDLE),
        (GuestSpec::new("caches", 512).swap_mib(256), Load::Idle { cache_mib: 200 }),
        (GuestSpec::new("works", 384), Load::Busy { mib: 150, ramp_mib_per_s: 50 }),
        (GuestSpec::new("shares", 256).swap_mib(64).shared_memory(), Load::IDLE),
    ]
}

impl Bench {
    fn start() -> Result<Self> {
        let hypervisor = Hypervisor::shared()?;
        let start = |(spec, load): (GuestSpec, Load)| hypervisor.define_and_start(&spec.load(load));
        let guests = specs().into_iter().map(start).collect::<Result<Vec<_>>>()?;
        guests.iter().try_for_each(Guest::wait_booted)?;
        let dir = Session::shared()?.fresh_dir("state")?;
        let agent = Agent::start_on_this_machine(hypervisor.uri(), &Agent::policy("Observe", ""), &dir, &[])?;
        Ok(Self { agent, guests })
    }

    /// What the agent tells, each guest with what the kernel counts.
    fn compared(&self) -> Result<(Ledger, Vec<(GuestView, QemuMemory)>)> {
        self.compared_by(&self.agent)
    }

    /// The same of another agent.
    fn compared_by(&self, agent: &Agent) -> Result<(Ledger, Vec<(GuestView, QemuMemory)>)> {
        let told = agent.told()?;
        let pair = |guest: &Guest| {
            let view = told.guests.iter().find(|view| &*view.name.name == guest.name());
            let view = view.with_context(|| format!("no guest {}", guest.name()))?.clone();
            let counted = QemuMemory::read(guest.qemu_pid()?, view.full.get())?;
            Ok((view, counted))
        };
        let pairs = self.guests.iter().map(pair).collect::<Result<Vec<_>>>()?;
        Ok((told.ledger.context("no ledger")?, pairs))
    }
}

/// The account says of guests what the kernel counts.
fn agree(ledger: &Ledger, pairs: &[(GuestView, QemuMemory)]) -> Result<()> {
    for (view, counted) in pairs {
        let overhead = view.facts.overhead.context("no overhead yet")?.get();
        ensure!(overhead.abs_diff(counted.beside) <= OVERHEAD, "{}: {overhead} {counted:?}", view.name);
        let held = view.facts.anon.context("no anon")?.get();
        ensure!(held + MOMENT >= counted.guest, "{}: holds {held} {counted:?}", view.name);
    }
    let sum = |of: fn(&QemuMemory) -> u64| pairs.iter().map(|(_, counted)| of(counted)).sum::<u64>();
    let (resident, beside) = (sum(|c| c.resident), sum(|c| c.beside));
    ensure!(ledger.resident.get().abs_diff(resident) <= MOMENT, "resident {resident}: {ledger:?}");
    let bound = OVERHEAD * u64::try_from(pairs.len())?;
    ensure!(ledger.overhead.get().abs_diff(beside) <= bound, "overhead {beside}: {ledger:?}");
    let charges: u64 = pairs.iter().map(|(view, _)| view.charge.get()).sum();
    ensure!(ledger.promised.get() == charges, "{charges} of {ledger:?}");
    Ok(())
}

/// A guest is promised what its balloon leaves it, and the kernel has taken the rest back.
fn was_taken_back(view: &GuestView, counted: &QemuMemory) -> Result<()> {
    let promised = view.target.plus(view.facts.overhead.unwrap_or_default());
    ensure!(view.charge.get() <= promised.get() + MOMENT, "{view:?}");
    let most = view.charge.get() + OVERHEAD + MOMENT;
    ensure!(counted.all() <= most, "{}: {counted:?} of {}", view.name, view.charge);
    Ok(())
}

#[test]
fn what_the_account_says_of_guests_is_what_the_kernel_counts() -> Result<()> {
    bench(|bench| {
        wait::until(MEASURED_AGAIN, "an account that agrees with the kernel", || {
            let (ledger, pairs) = bench.compared()?;
            agree(&ledger, &pairs)
        })
    })
}

#[test]
fn of_squeezed_guests_too_the_account_says_what_the_kernel_counts() -> Result<()> {
    bench(|bench| {
        for (guest, (_, load)) in bench.guests.iter().zip(specs()) {
            guest.begin(&load)?;
        }
        let (dir, host) = (Session::shared()?.fresh_dir("state")?, HostMemory::new(PLENTY)?);
        let uri = Hypervisor::shared()?.uri();
        let agent = Agent::start(uri, &Agent::policy("Enforce", ""), &dir, &host)?;
        host.set(agent.promised_mib(u64::try_from(bench.guests.len())?)? - SHORT)?;
        let mut rest = None;
        wait::until(
            SQUEEZED_BY,
            "guests that pay all that the host lacks, and an account that agrees",
            || {
                let (ledger, pairs) = bench.compared_by(&agent)?;
                // What was told before the host was seen to be small says nothing.
                let paid = ledger.reclaimed.get() + OVERHEAD >= SHORT * MIB;
                ensure!(paid && ledger.shortfall.is_zero(), "{ledger:?}");
                let moves = pairs.iter().find(|(view, _)| view.underway.is_some() || view.failure.is_some());
                ensure!(moves.is_none(), "{moves:?}");
                agree(&ledger, &pairs)?;
                pairs.iter().try_for_each(|(view, counted)| was_taken_back(view, counted))?;
                rest = Some((ledger, pairs));
                Ok(())
            },
        )
        .with_context(|| agent.process().log_tail())?;
        let (ledger, pairs) = rest.context("no account")?;
        let squeezed =
            pairs.iter().filter(|(view, _)| view.actual.get() + OVERHEAD < view.full.get()).count();
        eprintln!("{squeezed} of {} squeezed: {ledger:?}", pairs.len());
        ensure!(squeezed > 1, "{squeezed}: {ledger:?}");
        host.set(PLENTY)?;
        agent.interrupt()?;
        for (guest, (view, _)) in bench.guests.iter().zip(&pairs) {
            let holds = guest.memory_stats()?.actual_kib * 1024;
            ensure!(holds == view.full.get(), "{} holds {holds}: {view:?}", guest.name());
            guest.expect_unhurt()?;
        }
        Ok(())
    })
}

/// Memory that the kernel has and that no line of meminfo names, such as buffers of drivers. Seen here: 100 to 200 MiB.
const UNNAMED: u64 = 512 * MIB;

#[test]
fn what_is_no_guest_is_what_meminfo_leaves_when_caches_and_guests_are_taken_off() -> Result<()> {
    bench(|bench| {
        wait::until(SOON, "memory beside the guests that agrees with meminfo", || {
            let (ledger, pairs) = bench.compared()?;
            let lines = ["MemFree", "Buffers", "Cached", "SReclaimable", "Hugetlb"];
            let mut used = machine::meminfo("MemTotal")? + machine::meminfo("Shmem")?;
            for line in lines {
                used -= machine::meminfo(line)?;
            }
            used -= free_in_lists()?;
            let guests: u64 = pairs.iter().filter_map(|(view, _)| view.facts.anon).map(Bytes::get).sum();
            let (said, left) = (ledger.non_guest.get(), used.saturating_sub(guests));
            ensure!(said <= left + MOMENT * 4, "{said} of {left}");
            ensure!(said + UNNAMED >= left, "{said} of {left}");
            Ok(())
        })
    })
}

#[test]
fn no_guest_reaches_more_than_it_was_promised() -> Result<()> {
    bench(|bench| {
        let measured = wait::until(SOON, "measured overheads", || {
            let (_, pairs) = bench.compared()?;
            ensure!(pairs.iter().all(|(view, _)| view.facts.overhead.is_some()), "{pairs:?}");
            Ok(pairs)
        })?;
        for guest in &bench.guests {
            guest.begin(&Load::Surge { spare_mib: SPARE, ramp_mib_per_s: 1000 })?;
        }
        for (guest, (view, before)) in bench.guests.iter().zip(&measured) {
            let after = wait::until(SOON, format!("{} to touch all that it may", guest.name()), || {
                let usable = guest.memory_stats()?.usable_kib.context("no usable memory told")? / 1024;
                ensure!(usable <= SPARE + 2, "{usable} MiB usable; {}", guest.load_status()?);
                QemuMemory::read(guest.qemu_pid()?, view.full.get())
            })?;
            eprintln!(
                "{}: promised {} MiB, {} → {} MiB",
                view.name,
                view.charge.get() / MIB,
                before.all() / MIB,
                after.all() / MIB
            );
            ensure!(after.guest > before.guest, "{before:?} {after:?}");
            // The emulator's own memory grows with this work, which is measured again and promised then: what the promise
            // said of it stands for what it is now. The guest's own, by far the most, is bound to the last page.
            let own = after.guest + before.beside.min(after.beside);
            ensure!(own <= view.charge.get() + OVERHEAD, "{}: {after:?} of {}", view.name, view.charge);
            // Or the promise would be worth nothing: it is reached but for what the guest's kernel keeps free.
            ensure!(
                after.all() + (SPARE + 40) * MIB >= view.charge.get(),
                "{}: {after:?} of {}",
                view.name,
                view.charge
            );
        }
        Ok(())
    })
}
