//! The loop without orders: what the journal knows is all that it has to go by.

use overcommit_core::sample::GuestName;
use overcommit_core::step::Release;

use super::*;
use crate::contact::Answer;

/// A loop of a cluster's node without orders, which has waited for them for so long; its journal says of these guests what they
/// were called, and what they hold of 1 GiB.
fn unordered(
    temp: &std::path::Path,
    (purpose, waited): (Purpose, Duration),
    guests: &[(&str, Option<GuestName>, Bytes)],
) -> (Loop, NoGuests) {
    let entry = |(id, name, target): &(&str, Option<GuestName>, Bytes)| {
        let original = Original { target: Bytes::from_gib(1), period: None };
        let entry = Entry { incarnation: None, original, target: *target, whole: false, name: name.clone() };
        (GuestId::new(*id), entry)
    };
    leave_journal(temp, guests.iter().map(entry));
    let port = NoGuests::default();
    let (wakes, _inbox) = channel();
    let parts = parts(temp, &world(4096), &wakes, Box::new(port.clone()));
    let contact = Some(Arc::new(Contact::new("a")));
    let mut work = Loop::new(Parts { contact, purpose, ..parts });
    work.began = Monotonic::new(clock::now().since_origin().checked_sub(waited).unwrap());
    (work, port)
}

fn sample(id: &str, name: &GuestName) -> GuestSample {
    no_guests::guest(id, name.clone(), Bytes::from_gib(1))
}

/// What a squeezed guest holds of its 1 GiB.
const HALF: Bytes = Bytes::from_mib(512);
const A_WHILE: Duration = Duration::from_secs(21);

#[test]
fn without_orders_nothing_is_taken_and_the_guests_of_the_journal_alone_are_looked_after_until_some_come() {
    let (temp, name) = (tempfile::tempdir().unwrap(), GuestName::namespaced("shop", "web"));
    let known = [
        ("pod-1/uuid", Some(name.clone()), HALF),
        ("pod-2/uuid", None, Bytes::from_gib(1)),
        ("of-no-pod", None, HALF),
    ];
    let (mut work, port) = unordered(temp.path(), (Purpose::Control, A_WHILE), &known);
    work.do_what_is_due();
    let in_force = work.orders.clone().unwrap();
    assert!(in_force.paused && !in_force.release && !in_force.is_standalone());
    assert_eq!((in_force.policy.mode, &in_force.version), (Mode::Enforce, &None), "observing would release");
    let admitted = Arc::clone(&port.admitted.lock().unwrap());
    let listed: Vec<(&str, &GuestName)> = admitted.listed.iter().map(|(pod, name)| (&**pod, name)).collect();
    assert_eq!(listed, [("pod-1", &name), ("pod-2", &GuestName::unnamed("pod-2"))]);
    let given = |id: &str, name: &GuestName| {
        let member = in_force.listed()?.membership(&sample(id, name))?.clone();
        Some(member.opt_out.is_none() && in_force.policy.class(&member.class?).is_some_and(|c| !c.exclude))
    };
    assert_eq!(given("pod-1/uuid", &name), Some(true), "as one of the policy's");
    assert_eq!(given("pod-3/uuid", &name), None, "not in the journal");

    let report = work.last.clone().unwrap();
    assert_eq!(report.orders_missing_since, Some(work.since));
    let own: Vec<&str> = report.troubles.own().collect();
    // The condition Degraded shows 120 letters, with the number of further troubles in them.
    let shown = own[0].get(..103).unwrap();
    assert!(shown.starts_with("no orders since ") && shown.ends_with("a policy select this node"), "{own:?}");
    assert!(own[1].contains("waiting for the API server's first answer"), "{own:?}");

    work.work(Ok(Wake::Orders(orders(&["pod-1"]))));
    assert_eq!(work.orders.as_ref().unwrap().missing_since(), None, "true orders hold at once");
    work.next_tick = Instant::now();
    work.do_what_is_due();
    let report = work.last.clone().unwrap();
    assert!(report.orders_missing_since.is_none() && report.troubles.is_empty(), "{:?}", report.troubles);
    assert_eq!(work.parts.journal.entries().count(), 3, "nothing was forgotten");
}

#[test]
fn orders_are_waited_for_unless_nothing_else_is_to_be_done_and_nobody_is_touched_who_is_owed_nothing() {
    let squeezed = [("pod-1/uuid", None, HALF)];
    let whole = [("pod-1/uuid", None, Bytes::from_gib(1))];
    let soon = Duration::from_secs(15);
    for (purpose, waited, known, goes) in [
        (Purpose::Control, soon, &squeezed[..], false),
        (Purpose::Control, A_WHILE, &squeezed[..], true),
        (Purpose::HandOver, Duration::ZERO, &squeezed[..], true),
        (Purpose::Control, A_WHILE, &whole[..], false),
        (Purpose::Control, A_WHILE, &[][..], false),
    ] {
        let temp = tempfile::tempdir().unwrap();
        let (mut work, port) = unordered(temp.path(), (purpose, waited), known);
        work.do_what_is_due();
        // Whoever is to hand over has done so at once, and has no orders then.
        let went = work.orders.is_some() || work.handed_over == HandOver::Spread;
        assert_eq!(went, goes, "{purpose:?} after {waited:?}: {known:?}");
        assert_eq!(port.admitted.lock().unwrap().listed.len(), usize::from(goes));
        assert!(goes || work.last.is_none());
    }
    // One that has handed over has no orders any more, and is not to begin anew.
    let temp = tempfile::tempdir().unwrap();
    let (mut work, _) = unordered(temp.path(), (Purpose::Control, A_WHILE), &squeezed);
    work.stop(Stop::Handover);
    work.do_what_is_due();
    assert!(work.orders.is_none());
}

#[test]
fn a_release_without_orders_goes_by_the_journal_at_once_where_somebody_is_owed_something() {
    for (holds, goes) in [(HALF, true), (Bytes::from_gib(1), false)] {
        let temp = tempfile::tempdir().unwrap();
        let (mut work, port) =
            unordered(temp.path(), (Purpose::Control, Duration::ZERO), &[("pod-1/uuid", None, holds)]);
        work.do_what_is_due();
        assert!(work.orders.is_none(), "orders are waited for");
        work.work(Ok(Wake::Release));
        assert_eq!(work.orders.is_some(), goes);
        assert_eq!(port.admitted.lock().unwrap().listed.len(), usize::from(goes));
        let release = work.last.clone().and_then(|report| report.release);
        assert_eq!(
            release.is_some_and(|release| release != Release::Done),
            goes,
            "its guest was not seen yet"
        );
    }
}

#[test]
fn who_is_told_to_end_before_orders_came_sees_the_guests_of_its_journal_and_hands_over() {
    let told_to_end = |holds: Bytes| {
        let temp = tempfile::tempdir().unwrap();
        let (mut work, port) =
            unordered(temp.path(), (Purpose::Control, A_WHILE / 2), &[("pod-1/uuid", None, holds)]);
        work.do_what_is_due();
        port.unseen.store(1, Ordering::Relaxed);
        // A question is under way, which did not ask for those that are looked for now.
        work.asked = Some(Instant::now());
        work.work(Ok(Wake::Stop(Stop::Handover)));
        (temp, work, port)
    };
    let again = |work: &mut Loop| {
        work.next_tick = Instant::now();
        work.work(Err(RecvTimeoutError::Timeout));
    };
    let (_temp, mut work, port) = told_to_end(HALF);
    assert_eq!(port.admitted.lock().unwrap().listed.len(), 1);
    again(&mut work);
    work.work(Ok(Wake::Stop(Stop::Handover)));
    assert!(work.stopping.is_none(), "nobody was seen yet, and being told twice is no reason to go");
    port.unseen.store(0, Ordering::Relaxed);
    again(&mut work);
    assert_eq!(work.handed_over, HandOver::Spread);

    let (_temp, mut work, _) = told_to_end(HALF);
    work.seen_by = Instant::now();
    again(&mut work);
    assert_eq!(work.handed_over, HandOver::Spread, "who does not answer is not waited for without end");

    let (_temp, mut work, _) = told_to_end(Bytes::from_gib(1));
    work.stopping = work.stopping.map(|(stop, _)| (stop, Instant::now()));
    assert!(work.ended().unwrap().is_ok(), "there is nobody to be seen");
    assert!(matches!(work.handed_over, HandOver::Left { squeezed: Some(0), .. }), "{:?}", work.handed_over);
}

#[test]
fn who_is_owed_and_listed_no_more_is_called_what_it_was_after_a_restart_too() {
    let (temp, name) = (tempfile::tempdir().unwrap(), GuestName::namespaced("shop", "web"));
    let (mut work, mut port) = unordered(
        temp.path(),
        (Purpose::Control, Duration::ZERO),
        &[("pod-1/uuid", Some(name.clone()), HALF)],
    );
    // What the port calls a guest whose name nobody told since it began.
    port.but = vec![sample("pod-1/uuid", &GuestName::unnamed("pod-1"))];
    work.parts.guests = Box::new(port);
    work.work(Ok(Wake::Orders(orders(&["pod-2"]))));
    assert_eq!(work.last.clone().unwrap().guests[0].name, name);
    let id = GuestId::new("pod-1/uuid");
    let less = BTreeMap::from([(id.clone(), HALF.scaled(1, 2))]);
    let written = work.parts.journal.next(&work.state, &BTreeMap::new(), &less).unwrap();
    assert_eq!(written.guests[&id].name, Some(name));
}

#[test]
fn an_agent_that_goes_by_its_journal_is_ready_only_where_the_api_server_has_no_orders_for_it() {
    let temp = tempfile::tempdir().unwrap();
    let (mut work, _) = unordered(temp.path(), (Purpose::Control, A_WHILE), &[("pod-1/uuid", None, HALF)]);
    work.do_what_is_due();
    let (report, contact) = (work.last.clone().unwrap(), work.parts.contact.clone().unwrap());
    let ready = || crate::http::readiness(Some(&report), Some(&contact));
    assert!(ready().unwrap_err().contains("first answer"));
    contact.answered(Answer::None);
    assert!(ready().unwrap().contains("no NodeOvercommit"));
}
