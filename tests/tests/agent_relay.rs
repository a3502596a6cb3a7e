//! A real libvirt behind the relay that stands before every launcher's.

#![allow(
    clippy::unwrap_used,
    reason = "all of this is test code; the exception in clippy.toml sees only the test functions"
)]

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use overcommit_core::plan::Command;
use overcommit_core::ports::{Admission, Evident, GuestPort as _, HostView, ProcessPort, Reading, Who};
use overcommit_core::sample::{GuestName, GuestSample};
use overcommit_core::units::Bytes;
use overcommit_guest::{ConnectionKey, Guests, Target};
use overcommit_tests::guests::{GuestSpec, Hypervisor};
use overcommit_tests::wait::until;
use rustix::fs::{Mode, OFlags};

const SOON: Duration = Duration::from_mins(3);

/// A kernel that says nothing.
struct Silent;

impl ProcessPort for Silent {
    fn look(&mut self, _: &Who) -> HostView {
        HostView::default()
    }
    fn running(&mut self, _: Option<&str>) -> Vec<Evident> {
        Vec::new()
    }
}

/// The socket of this libvirt, pinned as a launcher's is.
fn pinned(uri: &str) -> Arc<OwnedFd> {
    let (_, path) = uri.split_once("socket=").unwrap();
    Arc::new(rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap())
}

/// The only guest, once it is as wanted.
fn guest_when(guests: &mut Guests, what: &str, so: impl Fn(&GuestSample) -> bool) -> GuestSample {
    until(SOON, what, || {
        guests.ask();
        while guests.is_waiting() {
            guests.wait(Duration::from_millis(50));
        }
        let seen = guests.sample(Reading::Fresh);
        seen.iter().find(|g| so(g)).cloned().ok_or_else(|| format!("{seen:?} {:?}", guests.connections()))
    })
    .unwrap()
}

#[test]
fn a_real_libvirt_is_watched_and_driven_through_the_relay() {
    let hypervisor = Hypervisor::shared().unwrap();
    let _guest = hypervisor.define_and_start(&GuestSpec::new("shop_victim", 192)).unwrap();
    let mut guests = Guests::in_cluster(Arc::new(|| Box::new(Silent)));
    let name = GuestName::namespaced("shop", "own");
    let listed = [(Arc::from("pod-1"), name.clone())].into();
    guests.admit(Arc::new(Admission { listed, ..Admission::default() }));
    let target = Target::Launcher(pinned(hypervisor.uri()));
    guests.set_launchers(vec![(ConnectionKey::new("pod-1"), target)]);
    let full = Bytes::from_mib(192);
    let seen = guest_when(&mut guests, "the guest", |g| g.balloon.is_some_and(|b| b.actual == full));
    assert_eq!((&seen.name, seen.config.full), (&name, full));
    let command = Command::SetPeriod { id: seen.id, seconds: 3 };
    guests.send(std::slice::from_ref(&command));
    let began = Instant::now();
    let outcomes = loop {
        let outcomes = guests.wait(Duration::from_millis(50)).outcomes;
        if !outcomes.is_empty() || began.elapsed() > SOON {
            break outcomes;
        }
    };
    assert_eq!(outcomes.first().map(|o| (&o.command, &o.result)), Some((&command, &Ok(()))));
    guest_when(&mut guests, "the period", |g| g.balloon.is_some_and(|b| b.period == Some(3)));
}
